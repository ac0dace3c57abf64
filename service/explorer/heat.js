// One attention map as colour over the part of the photograph that it covers. Knows nothing of requests.

const MAP_HEIGHT = 512; // pixels of a drawn map, whatever the number of tokens
const STAR_RADIUS = 1 / 28; // of the map's height
const STAR_INNER = 0.42; // radius of the inner corners, of that of the outer ones

/**
 * Draw a map.
 * @param {HTMLCanvasElement} canvas
 * @param {Object} map the answer of `dependency`.
 * @param {ImageBitmap} bitmap the upright picture.
 * @param {{threshold: number, opacity: number}} look both 0..1.
 */
function drawMap(canvas, map, bitmap, { threshold, opacity }) {
  const [, , regionWidth, regionHeight] = map.region;
  canvas.height = MAP_HEIGHT;
  canvas.width = Math.max(Math.round((MAP_HEIGHT * regionWidth) / regionHeight), 1);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  drawRegion(pen, bitmap, map.region);
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  const heat = stretch(relative(map.attention), canvas.width, canvas.height);
  for (let pixel = 0; pixel < heat.length; pixel += 1) {
    tint(image.data, 4 * pixel, heat[pixel] >= threshold ? heat[pixel] : 0, opacity);
  }
  pen.putImageData(image, 0, 0);
  drawStar(pen, map);
}

/** The part of the picture that the map covers; black where that reaches beyond the picture. */
function drawRegion(pen, bitmap, [x, y, width]) {
  const { canvas } = pen;
  const scale = canvas.width / width;
  pen.fillStyle = "#000000";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingQuality = "high";
  pen.setTransform(scale, 0, 0, scale, -x * scale, -y * scale);
  pen.drawImage(bitmap, 0, 0);
  pen.setTransform(1, 0, 0, 1, 0, 0);
}

/** [H][W] as parts of its largest value; all 0 if that is 0. */
function relative(attention) {
  const largest = largestOf(attention);
  return attention.map((row) => row.map((value) => (largest > 0 ? value / largest : 0)));
}

function largestOf(attention) {
  return Math.max(...attention.map((row) => Math.max(...row)));
}

/** [H][W] -> width * height values of the same area, bilinearly; the outermost values reach to the border. */
function stretch(rows, width, height) {
  const across = neighbours(rows[0].length, width);
  const down = neighbours(rows.length, height);
  const heat = new Float32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const { low, high, part } = down[y];
    for (let x = 0; x < width; x += 1) {
      const column = across[x];
      const top = mix(rows[low][column.low], rows[low][column.high], column.part);
      const bottom = mix(rows[high][column.low], rows[high][column.high], column.part);
      heat[y * width + x] = mix(top, bottom, part);
    }
  }
  return heat;
}

/** For each of `count` pixels, between which two of `tokens` it lies and how far; centres lie at halves. */
function neighbours(tokens, count) {
  return Array.from({ length: count }, (_, pixel) => {
    const at = clamp(((pixel + 0.5) * tokens) / count - 0.5, 0, tokens - 1);
    const low = Math.floor(at);
    return { low, high: Math.min(low + 1, tokens - 1), part: at - low };
  });
}

function mix(first, second, part) {
  return first + part * (second - first);
}

/** Pale one RGBA pixel and cover it with the colour of a value, 0..1. */
function tint(data, at, value, opacity) {
  const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
  const alpha = value > 0 ? opacity * value ** ALPHA_EXPONENT : 0;
  const color = 3 * Math.round(value * 255);
  for (let channel = 0; channel < 3; channel += 1) {
    const pale = BACKGROUND_LIGHT * mix(grey, data[at + channel], BACKGROUND_COLOR);
    data[at + channel] = mix(pale, INFERNO[color + channel], alpha);
  }
}

/** A white star with a dark rim at the joint; its point is in pixels, whose centres are whole numbers. */
function drawStar(pen, { point, region: [x, y, width, height] }) {
  const centre = [((point[0] + 0.5 - x) / width) * pen.canvas.width, ((point[1] + 0.5 - y) / height) * MAP_HEIGHT];
  const radius = MAP_HEIGHT * STAR_RADIUS;
  pen.beginPath();
  for (let corner = 0; corner < 10; corner += 1) {
    const angle = (corner * Math.PI) / 5 - Math.PI / 2;
    const length = radius * (corner % 2 === 0 ? 1 : STAR_INNER);
    pen.lineTo(centre[0] + length * Math.cos(angle), centre[1] + length * Math.sin(angle));
  }
  pen.closePath();
  pen.lineJoin = "round";
  pen.lineWidth = radius / 2;
  pen.strokeStyle = "#000000";
  pen.stroke();
  pen.fillStyle = "#ffffff";
  pen.fill();
}

/** The colours from nothing to the largest value, as they look over a grey photograph. */
function drawBar(canvas, { threshold, opacity }) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "#a0a0a0";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  for (let pixel = 0; pixel < canvas.width * canvas.height; pixel += 1) {
    const value = (pixel % canvas.width) / (canvas.width - 1);
    tint(image.data, 4 * pixel, value >= threshold ? value : 0, opacity);
  }
  pen.putImageData(image, 0, 0);
}

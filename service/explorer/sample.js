// A person in front of a wall, drawn by the page itself: something to try without a photograph at hand.
// Soft shading, clothes and a face, because the network has only ever seen photographs.

const SAMPLE_SIZE = { width: 480, height: 640 };
const SKIN = "#c98f6b";
const SHIRT = "#b23a34";
const TROUSERS = "#2f3e5e";
const HAIR = "#33231b";

/** The drawn person as a JPEG file. */
async function drawSample() {
  const canvas = document.createElement("canvas");
  canvas.width = SAMPLE_SIZE.width;
  canvas.height = SAMPLE_SIZE.height;
  const pen = canvas.getContext("2d");
  drawRoom(pen);
  drawLegs(pen);
  drawTrunk(pen);
  drawHead(pen);
  drawArms(pen);
  addGrain(pen);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  return new File([blob], "sample.jpg", { type: "image/jpeg" });
}

/** A wall with a window, and a floor with the person's shadow. */
function drawRoom(pen) {
  const { width, height } = SAMPLE_SIZE;
  fillRect(pen, [0, 0, width, 520], shade(pen, [0, 0, width, 0], ["#cfc7b4", "#e9e2d0", "#bdb39c"]));
  fillRect(pen, [0, 520, width, 120], shade(pen, [0, 520, 0, height], ["#8a6d4c", "#a98a63"]));
  fillRect(pen, [0, 508, width, 12], "#efe9da");
  fillRect(pen, [28, 70, 96, 150], "#f4f1e8");
  fillRect(pen, [36, 78, 80, 134], shade(pen, [0, 78, 0, 212], ["#8fb7d8", "#d5e4ea"]));
  fillRect(pen, [74, 78, 4, 134], "#f4f1e8");
  pen.save();
  pen.filter = "blur(10px)";
  pen.fillStyle = "rgba(40, 25, 10, 0.45)";
  pen.beginPath();
  pen.ellipse(255, 604, 120, 14, 0, 0, 2 * Math.PI);
  pen.fill();
  pen.restore();
}

/** Trousers and shoes; the person's right leg is on the left of the picture. */
function drawLegs(pen) {
  for (const [hip, knee, ankle] of [
    [[218, 352], [208, 466], [200, 578]],
    [[266, 352], [276, 466], [286, 578]],
  ]) {
    limb(pen, ankle, 12, [ankle[0] + (ankle[0] < 240 ? -14 : 14), ankle[1] + 20], 11, "#2a2320");
    limb(pen, knee, 21, ankle, 14, TROUSERS);
    limb(pen, hip, 31, knee, 21, TROUSERS);
  }
  fillShape(pen, [[192, 322], [292, 322], [297, 366], [242, 384], [187, 366]], TROUSERS);
}

/** Shirt and neck. */
function drawTrunk(pen) {
  limb(pen, [242, 150], 17, [242, 184], 20, "#b57d5b");
  pen.beginPath();
  pen.moveTo(222, 172);
  pen.bezierCurveTo(200, 182, 178, 182, 172, 204);
  pen.bezierCurveTo(180, 250, 192, 290, 188, 344);
  pen.quadraticCurveTo(242, 356, 296, 344);
  pen.bezierCurveTo(292, 290, 304, 250, 312, 204);
  pen.bezierCurveTo(306, 182, 284, 182, 262, 172);
  pen.quadraticCurveTo(242, 196, 222, 172);
  pen.fillStyle = shade(pen, [172, 0, 312, 0], [darker(SHIRT, 0.6), SHIRT, lighter(SHIRT, 0.15), darker(SHIRT, 0.7)]);
  pen.fill();
  pen.strokeStyle = "rgba(60, 0, 0, 0.35)";
  pen.lineWidth = 2;
  for (const [x, bend] of [[212, -8], [248, 5], [276, 9]]) {
    pen.beginPath();
    pen.moveTo(x, 262);
    pen.quadraticCurveTo(x + bend, 300, x - bend / 2, 342);
    pen.stroke();
  }
}

/** Both arms: the person's left one is held a little away. */
function drawArms(pen) {
  const arms = [
    { shoulder: [188, 206], elbow: [160, 282], wrist: [150, 356], hand: [148, 376] },
    { shoulder: [296, 206], elbow: [338, 268], wrist: [382, 318], hand: [394, 333] },
  ];
  for (const { shoulder, elbow, wrist, hand } of arms) {
    const thumb = hand[0] > wrist[0] ? -9 : 9;
    limb(pen, wrist, 8, [(wrist[0] + hand[0]) / 2 + thumb, (wrist[1] + hand[1]) / 2], 4, SKIN);
    limb(pen, wrist, 9, hand, 10, SKIN);
    limb(pen, elbow, 13, wrist, 9, SKIN);
    limb(pen, shoulder, 20, elbow, 14, darker(SHIRT, 0.9));
  }
}

/** Hair, ears, face. */
function drawHead(pen) {
  oval(pen, [242, 104], [37, 46], HAIR);
  oval(pen, [207, 118], [7, 11], darker(SKIN, 0.85));
  oval(pen, [277, 118], [7, 11], darker(SKIN, 0.85));
  pen.beginPath();
  pen.ellipse(242, 118, 33, 43, 0, 0, 2 * Math.PI);
  const light = pen.createRadialGradient(234, 108, 6, 242, 118, 46);
  light.addColorStop(0, lighter(SKIN, 0.25));
  light.addColorStop(1, darker(SKIN, 0.72));
  pen.fillStyle = light;
  pen.fill();
  pen.beginPath();
  pen.ellipse(242, 88, 34, 20, 0, Math.PI, 2 * Math.PI);
  pen.quadraticCurveTo(250, 80, 208, 92);
  pen.fillStyle = HAIR;
  pen.fill();
  for (const x of [229, 255]) {
    oval(pen, [x, 113], [6.5, 3.6], "#f3ece4");
    oval(pen, [x, 113], [3.2, 3.4], "#2b1c14");
    stroke(pen, [[x - 8, 104], [x, 98], [x + 8, 104]], HAIR, 2.5);
  }
  stroke(pen, [[243, 114], [247, 128], [240, 131]], darker(SKIN, 0.6), 2.5);
  stroke(pen, [[227, 138], [242, 153], [257, 138]], "#8d3a34", 3.5);
}

/** A tapered limb between two points with radii, darker at its sides. */
function limb(pen, [x1, y1], r1, [x2, y2], r2, color) {
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [nx, ny] = [(y1 - y2) / length, (x2 - x1) / length];
  const angle = Math.atan2(ny, nx);
  pen.beginPath();
  pen.arc(x1, y1, r1, angle, angle + Math.PI);
  pen.arc(x2, y2, r2, angle + Math.PI, angle);
  pen.closePath();
  const r = Math.max(r1, r2);
  const across = [x1 - nx * r, y1 - ny * r, x1 + nx * r, y1 + ny * r];
  pen.fillStyle = shade(pen, across, [darker(color, 0.62), color, lighter(color, 0.14), color, darker(color, 0.62)]);
  pen.fill();
}

/** Grain as of a camera; the same at each call, so that the sample is always one picture. */
function addGrain(pen) {
  const image = pen.getImageData(0, 0, SAMPLE_SIZE.width, SAMPLE_SIZE.height);
  let seed = 1;
  for (let i = 0; i < image.data.length; i += 4) {
    seed = (seed * 48271) % 2147483647;
    const noise = (seed / 2147483647 - 0.5) * 14;
    for (let c = 0; c < 3; c += 1) image.data[i + c] += noise;
  }
  pen.putImageData(image, 0, 0);
}

function oval(pen, [x, y], [rx, ry], color) {
  pen.beginPath();
  pen.ellipse(x, y, rx, ry, 0, 0, 2 * Math.PI);
  pen.fillStyle = color;
  pen.fill();
}

function stroke(pen, [start, control, end], color, width) {
  pen.beginPath();
  pen.moveTo(...start);
  pen.quadraticCurveTo(...control, ...end);
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.lineCap = "round";
  pen.stroke();
}

function fillShape(pen, points, color) {
  pen.beginPath();
  for (const point of points) pen.lineTo(...point);
  pen.fillStyle = color;
  pen.fill();
}

function fillRect(pen, rect, color) {
  pen.fillStyle = color;
  pen.fillRect(...rect);
}

/** A linear gradient along x1, y1, x2, y2 with evenly spaced colours. */
function shade(pen, line, colors) {
  const gradient = pen.createLinearGradient(...line);
  colors.forEach((color, number) => gradient.addColorStop(number / (colors.length - 1), color));
  return gradient;
}

/** #rrggbb times a factor; more than 1 is lighter. */
function darker(color, factor) {
  const parts = [1, 3, 5].map((at) => Math.round(Number.parseInt(color.slice(at, at + 2), 16) * factor));
  return `#${parts.map((part) => Math.min(part, 255).toString(16).padStart(2, "0")).join("")}`;
}

function lighter(color, part) {
  return darker(color, 1 + part);
}

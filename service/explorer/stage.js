// The photograph, and over it boxes and skeletons.

const HANDLE = 5; // half the side of a corner handle, in CSS pixels
const JOINT_RADIUS = 4;

/** Edge coordinates of the picture (0 to its width) -> CSS pixels of the stage. */
function stageScale() {
  return byId("drawing").clientWidth / state.picture.width;
}

/** Where a pointer is, in edge coordinates of the picture. */
function pointOf(event) {
  const bounds = byId("drawing").getBoundingClientRect();
  const { width, height } = state.picture;
  return [
    ((event.clientX - bounds.left) / bounds.width) * width,
    ((event.clientY - bounds.top) / bounds.height) * height,
  ];
}

/** A pixel coordinate (0 is the centre of the first pixel) -> CSS pixels. */
function onStage(pixel) {
  return (pixel + 0.5) * stageScale();
}

/** Make both canvases as fine as the screen is, and draw them. */
function layOutStage() {
  if (!state.picture) return;
  const stage = byId("stage");
  const { width, height, bitmap } = state.picture;
  stage.style.setProperty("--ratio", width / height);
  for (const canvas of [byId("photo"), byId("drawing")]) {
    canvas.width = Math.max(Math.round(stage.clientWidth * devicePixelRatio), 1);
    canvas.height = Math.max(Math.round(stage.clientHeight * devicePixelRatio), 1);
  }
  const photo = byId("photo");
  const pen = photo.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, photo.width, photo.height);
  drawStage();
}

function drawStage() {
  const canvas = byId("drawing");
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (!state.picture) return;
  pen.setTransform(canvas.width / canvas.clientWidth, 0, 0, canvas.height / canvas.clientHeight, 0, 0);
  state.persons.forEach(({ box }, number) => box && drawBox(pen, box, number));
  for (const { pose } of state.persons) if (pose) drawSkeleton(pen, triples(pose));
  const pose = chosenPerson()?.pose;
  if (pose && state.joint !== null) drawChosenJoint(pen, triples(pose)[state.joint]);
  canvas.setAttribute("aria-label", describePicture());
}

function describePicture() {
  const found = state.persons.filter(({ pose }) => pose).length;
  return `${state.picture.name}, ${state.picture.width} by ${state.picture.height} pixels, skeletons: ${found}`;
}

/** COCO's flat keypoints -> [x, y, confidence] of each. */
function triples(pose) {
  return state.model.keypoints.map((_, joint) => pose.keypoints.slice(3 * joint, 3 * joint + 3));
}

function drawBox(pen, box, number) {
  const [x, y, w, h] = box.map((value) => value * stageScale());
  const isChosen = number === state.chosen;
  pen.globalAlpha = 1;
  for (const [color, width] of [["rgba(0, 0, 0, 0.6)", 4], ["#ffffff", 2]]) {
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.setLineDash(isChosen ? [] : [6, 4]);
    pen.strokeRect(x, y, w, h);
  }
  pen.setLineDash([]);
  drawNumber(pen, number + 1, x, y);
  if (!isChosen) return;
  pen.lineWidth = 1;
  pen.strokeStyle = "#000000";
  pen.fillStyle = "#ffffff";
  for (const [cx, cy] of [[x, y], [x + w, y], [x, y + h], [x + w, y + h]]) {
    pen.fillRect(cx - HANDLE, cy - HANDLE, 2 * HANDLE, 2 * HANDLE);
    pen.strokeRect(cx - HANDLE, cy - HANDLE, 2 * HANDLE, 2 * HANDLE);
  }
}

function drawNumber(pen, number, x, y) {
  pen.font = "600 12px system-ui, sans-serif";
  const width = pen.measureText(number).width + 10;
  pen.fillStyle = "rgba(0, 0, 0, 0.7)";
  pen.fillRect(x + HANDLE, y + HANDLE, width, 18);
  pen.fillStyle = "#ffffff";
  pen.fillText(number, x + HANDLE + 5, y + HANDLE + 13);
}

function drawSkeleton(pen, joints) {
  const sides = state.model.keypoints.map(sideOf);
  pen.lineCap = "round";
  for (const [first, second] of state.model.skeleton) {
    const side = sides[first] === sides[second] ? sides[first] : "middle";
    const isSure = Math.min(joints[first][2], joints[second][2]) >= SURE_ABOVE;
    pen.globalAlpha = isSure ? 1 : 0.25;
    pen.strokeStyle = SIDE_COLORS[side];
    pen.lineWidth = 3;
    pen.beginPath();
    for (const [x, y] of [joints[first], joints[second]]) pen.lineTo(onStage(x), onStage(y));
    pen.stroke();
  }
  joints.forEach(([x, y, confidence], joint) => {
    pen.globalAlpha = confidence >= SURE_ABOVE ? 1 : 0.35;
    disc(pen, onStage(x), onStage(y), JOINT_RADIUS + 1.5, "#ffffff");
    disc(pen, onStage(x), onStage(y), JOINT_RADIUS, SIDE_COLORS[sides[joint]]);
  });
  pen.globalAlpha = 1;
}

function drawChosenJoint(pen, [x, y]) {
  for (const [color, width] of [["#000000", 5], ["#ffffff", 2.5]]) {
    pen.strokeStyle = color;
    pen.lineWidth = width;
    pen.beginPath();
    pen.arc(onStage(x), onStage(y), JOINT_RADIUS + 6, 0, 2 * Math.PI);
    pen.stroke();
  }
}

function disc(pen, x, y, radius, color) {
  pen.fillStyle = color;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

// Pointer on the picture: drag a new box, a corner or an edge of the chosen one; click a joint or a person.

const NEAR_JOINT = 18; // CSS pixels
const NEAR_CORNER = 12;
const NEAR_EDGE = 6;
const CLICK_SLACK = 4; // a pointer that moves less than this clicks
let gesture = null; // {start, pointer, kind: "new" | "corner" | "move", box, fixed, moved}

function listenToGestures() {
  const canvas = byId("drawing");
  canvas.addEventListener("pointerdown", beginGesture);
  canvas.addEventListener("pointermove", (event) => (gesture ? continueGesture(event) : showCursor(event)));
  canvas.addEventListener("pointerup", endGesture);
  canvas.addEventListener("pointercancel", cancelGesture);
  byId("finger").addEventListener("click", () => setFinger(!fingerDraws()));
}

/** Whether a finger draws; otherwise it scrolls the page, and only taps. */
function fingerDraws() {
  return byId("finger").getAttribute("aria-pressed") === "true";
}

function setFinger(draws) {
  byId("finger").setAttribute("aria-pressed", String(draws));
  byId("drawing").classList.toggle("finger-draws", draws);
}

function beginGesture(event) {
  if (!state.picture || event.button !== 0 || gesture) return;
  const start = pointOf(event);
  const mayDrag = event.pointerType !== "touch" || fingerDraws();
  const grip = gripAt(start);
  gesture = { start, pointer: event.pointerId, mayDrag, moved: false, before: chosenPerson()?.box, ...grip };
  event.target.setPointerCapture(event.pointerId);
}

/** What of the chosen box is under a point: a corner, an edge, or nothing, which starts a new box. */
function gripAt([x, y]) {
  const box = chosenPerson()?.box;
  if (!box) return { kind: "new", fixed: [x, y] };
  const scale = stageScale();
  const [left, top, right, bottom] = edges(box);
  const near = (a, b, slack) => Math.abs(a - b) * scale <= slack;
  for (const [cx, cy] of [[left, top], [right, top], [left, bottom], [right, bottom]]) {
    if (near(x, cx, NEAR_CORNER) && near(y, cy, NEAR_CORNER)) {
      return { kind: "corner", fixed: [left + right - cx, top + bottom - cy] };
    }
  }
  const beside = near(x, left, NEAR_EDGE) || near(x, right, NEAR_EDGE);
  const along = near(y, top, NEAR_EDGE) || near(y, bottom, NEAR_EDGE);
  const isInside = x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1;
  return (beside || along) && isInside ? { kind: "move" } : { kind: "new", fixed: [x, y] };
}

function edges([x, y, w, h]) {
  return [x, y, x + w, y + h];
}

function showCursor(event) {
  if (!state.picture) return;
  const { kind } = gripAt(pointOf(event));
  const cursors = { new: "crosshair", corner: "grab", move: "move" };
  event.target.style.cursor = nearestJoint(pointOf(event)) ? "pointer" : cursors[kind];
}

function continueGesture(event) {
  if (event.pointerId !== gesture.pointer || !gesture.mayDrag) return;
  const point = pointOf(event);
  const distance = Math.hypot(point[0] - gesture.start[0], point[1] - gesture.start[1]) * stageScale();
  if (!gesture.moved && distance < CLICK_SLACK) return;
  if (!gesture.moved && gesture.kind === "new") beginBox();
  gesture.moved = true;
  showBox(boxOfGesture(point));
}

function boxOfGesture(point) {
  if (gesture.kind === "move") {
    const shift = [0, 1].map((axis) => point[axis] - gesture.start[axis]);
    return fitBox([gesture.before[0] + shift[0], gesture.before[1] + shift[1], gesture.before[2], gesture.before[3]]);
  }
  const [left, right] = [gesture.fixed[0], point[0]].sort((a, b) => a - b);
  const [top, bottom] = [gesture.fixed[1], point[1]].sort((a, b) => a - b);
  return cutBox(left, top, right, bottom);
}

function endGesture(event) {
  if (!gesture || event.pointerId !== gesture.pointer) return;
  const { moved, start } = gesture;
  gesture = null;
  if (!moved) {
    clickAt(start);
    return;
  }
  if (fingerDraws()) setFinger(false);
  boxesSettled();
}

/** The browser took the pointer away, to scroll for example: all is as it was before. */
function cancelGesture(event) {
  if (!gesture || event.pointerId !== gesture.pointer) return;
  const { moved, kind, before } = gesture;
  gesture = null;
  if (!moved) return;
  if (kind === "new") removePerson(state.chosen);
  else showBox(before);
  boxesSettled();
}

function clickAt(point) {
  const hit = nearestJoint(point);
  if (hit) {
    choosePerson(hit.person);
    chooseJoint(hit.joint);
    return;
  }
  const inside = state.persons.findIndex(({ box }) => {
    if (!box) return false;
    const [left, top, right, bottom] = edges(box);
    return point[0] >= left && point[0] <= right && point[1] >= top && point[1] <= bottom;
  });
  if (inside >= 0) choosePerson(inside);
}

/** The joint nearest to a point in edge coordinates: {person, joint}, or null where none is near. */
function nearestJoint([x, y]) {
  let best = null;
  let nearest = NEAR_JOINT / stageScale();
  state.persons.forEach(({ pose }, person) => {
    if (!pose) return;
    triples(pose).forEach(([jx, jy, confidence], joint) => {
      // A faint joint is taken only where no sure one is about as near.
      const distance = Math.hypot(jx + 0.5 - x, jy + 0.5 - y) * (confidence >= SURE_ABOVE ? 1 : 1.5);
      if (distance < nearest) [best, nearest] = [{ person, joint }, distance];
    });
  });
  return best;
}

// The persons of the picture: their boxes, the list of them, and the keys that move a box.

const SMALLEST = 8; // pixels, a side of a box
const SETTLE_S = 0.35; // after a key, before the service is asked
let settling = null;

/** A box of whole pixels with the nearest place inside the picture; its size is kept where it fits. */
function fitBox([x, y, w, h]) {
  const { width, height } = state.picture;
  const size = [clamp(Math.round(w), SMALLEST, width), clamp(Math.round(h), SMALLEST, height)];
  return [clamp(Math.round(x), 0, width - size[0]), clamp(Math.round(y), 0, height - size[1]), ...size];
}

/** The box of whole pixels between two corners, cut at the picture's borders. */
function cutBox(left, top, right, bottom) {
  const { width, height } = state.picture;
  const [x, y] = [Math.round(clamp(left, 0, width)), Math.round(clamp(top, 0, height))];
  return fitBox([x, y, Math.round(clamp(right, 0, width)) - x, Math.round(clamp(bottom, 0, height)) - y]);
}

function clamp(value, low, high) {
  return Math.max(Math.min(value, Math.max(low, high)), low);
}

/** A new person without a box yet; the first one replaces the whole picture. */
function beginBox() {
  forgetPoses();
  state.persons = state.persons.filter(({ box }) => box);
  state.persons.push({ box: fitBox([0, 0, SMALLEST, SMALLEST]), pose: null });
  state.chosen = state.persons.length - 1;
  listPersons();
}

/** Give the chosen person a box; what was found in the old one is forgotten. */
function showBox(box) {
  const person = chosenPerson();
  if (person.box.join() !== box.join()) {
    Object.assign(person, { box, pose: null });
    forgetPoses();
  }
  describePersons();
  listJoints();
  drawStage();
}

function addBox() {
  const { width, height } = state.picture;
  beginBox();
  showBox(fitBox([width / 4, height / 8, width / 2, (3 * height) / 4]));
  byId("people").children[state.chosen].querySelector("button").focus();
  say(`Box ${state.chosen + 1} added. Move it with the arrow keys.`);
  boxesSettled();
}

function removePerson(number) {
  state.persons.splice(number, 1);
  if (state.persons.length === 0) state.persons.push({ box: null, pose: null });
  state.chosen = clamp(number, 0, state.persons.length - 1);
  forgetPoses();
  listPersons();
}

function choosePerson(number) {
  if (state.chosen === number) return;
  state.chosen = number;
  describePersons();
  listJoints();
  drawStage();
  refreshMaps();
}

/** Build the list anew; only when persons come or go, or the focus would be lost. */
function listPersons() {
  const items = state.persons.map(({ box }, number) => {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "person";
    button.addEventListener("click", () => choosePerson(number));
    item.append(button);
    if (box) {
      button.setAttribute("aria-describedby", "people-hint");
      button.addEventListener("keydown", (event) => onPersonKey(event, number));
      item.append(removeButton(number));
    }
    return item;
  });
  byId("people").replaceChildren(...items);
  byId("people-hint").hidden = !state.persons.some(({ box }) => box);
  describePersons();
  listJoints();
  drawStage();
}

function removeButton(number) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "remove";
  button.textContent = "×";
  button.setAttribute("aria-label", `Remove box ${number + 1}`);
  button.addEventListener("click", () => removeAndFocus(number));
  return button;
}

function removeAndFocus(number) {
  removePerson(number);
  byId("people").children[state.chosen].querySelector("button").focus();
  say(`Box ${number + 1} removed.`);
  boxesSettled();
}

function describePersons() {
  state.persons.forEach(({ box, pose }, number) => {
    const button = byId("people").children[number].querySelector("button");
    const [x, y, w, h] = (box ?? []).map(Math.round);
    const name = box ? `${number + 1}: ${w} × ${h} at ${x}, ${y}` : "Whole picture";
    button.textContent = pose ? `${name} · score ${pose.score.toFixed(2)}` : name;
    button.setAttribute("aria-pressed", String(number === state.chosen));
  });
  byId("save-poses").disabled = !state.answer;
}

/** Arrows move the box by a hundredth of the picture, with Alt by a pixel; with Shift they change its size. */
function onPersonKey(event, number) {
  if (event.key === "Delete" || event.key === "Backspace") {
    event.preventDefault();
    removeAndFocus(number);
    return;
  }
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const direction = directions[event.key];
  if (!direction || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  choosePerson(number);
  const step = event.altKey ? 1 : Math.max(Math.round(Math.max(state.picture.width, state.picture.height) / 100), 1);
  const [dx, dy] = direction.map((part) => part * step);
  const [x, y, w, h] = state.persons[number].box;
  showBox(event.shiftKey ? resized([x, y, w + dx, h + dy]) : fitBox([x + dx, y + dy, w, h]));
  clearTimeout(settling);
  settling = setTimeout(boxesSettled, 1000 * SETTLE_S);
}

/** The box grows to the right and down, as far as the picture goes. */
function resized([x, y, w, h]) {
  const { width, height } = state.picture;
  return fitBox([x, y, Math.min(w, width - x), Math.min(h, height - y)]);
}

/** The boxes are as they are meant: ask for their poses. */
function boxesSettled() {
  clearTimeout(settling);
  describePersons();
  askForPoses();
}

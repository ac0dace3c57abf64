// Asking for the poses of all persons, and the list of the chosen person's joints.

let posing = null; // AbortController of the newest question

/** The fields of the question, as the service takes them: the picture, and the boxes if there are any. */
function poseFields() {
  const boxes = state.persons.filter(({ box }) => box).map(({ box }) => box);
  return boxes.length ? { image: state.picture.blob, boxes: JSON.stringify(boxes) } : { image: state.picture.blob };
}

async function askForPoses() {
  posing?.abort();
  const controller = new AbortController();
  posing = controller;
  settle("pose");
  say("Looking for joints …");
  try {
    if (!state.model) await loadModel();
    const answer = await showingProgress(ask("pose", poseFields(), { signal: controller.signal }));
    if (posing === controller) showPoses(answer);
  } catch (error) {
    if (posing === controller) complain("pose", error, askForPoses);
  }
}

/** The boxes are others now: what was found in them is over, and what is being asked about them, too. */
function forgetPoses() {
  posing?.abort();
  posing = null;
  state.answer = null;
  forgetMaps();
}

/** Whether the persons of the answer are those that the detector found, and not those of boxes that were drawn. */
function wereDetected() {
  return state.model.detector !== "none" && !state.persons.some(({ box }) => box);
}

function showPoses(answer) {
  state.answer = answer;
  if (wereDetected()) {
    state.persons = answer.poses.map((pose) => ({ box: pose.bbox, pose }));
    if (state.persons.length === 0) state.persons.push({ box: null, pose: null });
    state.chosen = 0;
    listPersons();
  } else {
    answer.poses.forEach((pose, number) => {
      state.persons[number].pose = pose;
    });
    describePersons();
    listJoints();
    drawStage();
  }
  const { width, height } = state.picture;
  if (answer.image.width !== width || answer.image.height !== height) {
    const sizes = `${answer.image.width} by ${answer.image.height} pixels, the browser ${width} by ${height}`;
    complain("pose", new Error(`The service sees ${sizes}; what is drawn may be in the wrong place.`));
    return;
  }
  if (answer.poses.length === 0) {
    say("The detector found nobody. Drag on the picture, or add a box, to say where somebody is.");
    refreshMaps();
    return;
  }
  const sure = answer.poses.map((pose) => triples(pose).filter(([, , confidence]) => confidence >= SURE_ABOVE).length);
  const persons = sure.length === 1 ? "" : ` of ${sure.length} people`;
  say(`${sure.reduce((a, b) => a + b, 0)} joints${persons} found. Choose one to see what it depends on.`);
  refreshMaps();
}

/** One row for each joint of the chosen person; the radio buttons stay, so that the focus does. */
function listJoints() {
  if (!state.model) return;
  const body = byId("joints");
  if (!body.children.length) body.append(...state.model.keypoints.map(jointRow));
  const joints = chosenPerson()?.pose ? triples(chosenPerson().pose) : null;
  [...body.children].forEach((row, joint) => {
    const confidence = joints ? joints[joint][2] : null;
    row.classList.toggle("unsure", confidence !== null && confidence < SURE_ABOVE);
    row.querySelector(".number").textContent = confidence === null ? "–" : confidence.toFixed(2);
    row.querySelector(".filled").style.width = `${100 * clamp(confidence ?? 0, 0, 1)}%`;
    row.querySelector("input").checked = joint === state.joint;
  });
}

function jointRow(name, joint) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  const label = document.createElement("label");
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "joint", value: String(joint) });
  radio.addEventListener("change", () => chooseJoint(joint));
  const dot = span(`dot ${sideOf(name)}`);
  label.append(radio, dot, span("", spoken(name)));
  head.append(label);
  const cell = document.createElement("td");
  const scale = span("scale");
  scale.setAttribute("aria-hidden", "true");
  scale.append(span(`filled ${sideOf(name)}`));
  cell.append(scale, span("number"));
  row.append(head, cell);
  row.addEventListener("click", (event) => {
    if (event.target.closest("label") === null) radio.click();
  });
  return row;
}

function span(className, text = "") {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function chooseJoint(joint) {
  state.joint = joint;
  listJoints();
  drawStage();
  refreshMaps();
}

// The two panels: the dependency maps of the chosen joint in the MHSA layers and in the encoder.

const LEVEL_TITLES = { mhsa: "MHSA in the backbone", encoder: "Transformer encoder" };
const MOST_MAPS = 400; // kept, so that a slider that goes back need not ask again
const SLIDER_S = 0.08; // before asking: a slider passes many values on its way
const mapsKept = new Map(); // JSON of the question -> answer
const panels = []; // {level, root, map, asking}

function buildPanels() {
  for (const [level, { layers, heads }] of Object.entries(state.model.attention)) {
    const root = byId("panel").content.cloneNode(true).firstElementChild;
    const panel = { level, root, map: null, asking: null };
    const title = LEVEL_TITLES[level] ?? level;
    root.querySelector("h3").textContent = title;
    root.setAttribute("aria-label", title);
    root.dataset.level = level;
    setUpSlider(panel, ".layer", layers - 1, layers - 1, (value) => String(value));
    setUpSlider(panel, ".head", heads - 1, -1, (value) => (value < 0 ? "mean" : String(value)));
    for (const button of root.querySelectorAll("button")) {
      button.setAttribute("aria-label", `${button.textContent}, ${title}`);
    }
    listenToPanel(panel);
    panels.push(panel);
    showPanel(panel);
  }
  byId("panels").append(...panels.map(({ root }) => root));
}

function setUpSlider(panel, selector, most, value, shown) {
  const slider = panel.root.querySelector(selector);
  const name = selector === ".layer" ? "Layer" : "Head";
  const show = () => {
    const text = shown(Number(slider.value));
    slider.parentElement.querySelector("output").textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };
  slider.setAttribute("aria-label", `${name}, ${LEVEL_TITLES[panel.level] ?? panel.level}`);
  slider.max = String(most);
  slider.value = String(value);
  slider.disabled = Number(slider.min) === most;
  slider.addEventListener("input", () => {
    show();
    refreshPanel(panel);
  });
  show();
}

/** The parameters of the map that a panel is to show, or null before a joint is chosen. */
function mapFields(panel) {
  const person = chosenPerson();
  if (!person?.pose || state.joint === null) return null;
  return {
    ...(person.box && { box: JSON.stringify(person.box) }),
    keypoint: jointName(state.joint),
    level: panel.level,
    ...chosenAttention(panel),
    mode: state.mode,
  };
}

/** Layer and head as the sliders of a panel have them. */
function chosenAttention({ root }) {
  const head = root.querySelector(".head").value;
  return { layer: root.querySelector(".layer").value, head: head === "-1" ? "mean" : head };
}

function refreshMaps() {
  for (const panel of panels) refreshPanel(panel);
}

/** Show the map that is wanted now, from the service if it is not kept; an older question is given up. */
async function refreshPanel(panel) {
  panel.asking?.abort();
  panel.asking = null;
  const fields = mapFields(panel);
  const key = JSON.stringify([state.picture?.number, fields]);
  if (!fields || mapsKept.has(key)) {
    panel.map = fields ? mapsKept.get(key) : null;
    settle(panel.level);
    showPanel(panel);
    if (fields) sayWhatIsShown(panel);
    return;
  }
  const controller = new AbortController();
  panel.asking = controller;
  say("Reading the attention …");
  showPanel(panel);
  try {
    const map = await showingProgress(askForMap(fields, controller.signal));
    if (panel.asking !== controller) return;
    keepMap(key, map);
    panel.map = map;
    panel.asking = null;
    settle(panel.level);
    sayWhatIsShown(panel);
  } catch (error) {
    if (panel.asking !== controller) return;
    panel.asking = null;
    panel.map = null;
    complain(panel.level, error, () => refreshPanel(panel));
  }
  showPanel(panel);
}

async function askForMap(fields, signal) {
  await pause(SLIDER_S, signal);
  return ask("dependency", { image: state.picture.blob, ...fields, format: "json" }, { signal });
}

function keepMap(key, map) {
  mapsKept.set(key, map);
  if (mapsKept.size > MOST_MAPS) mapsKept.delete(mapsKept.keys().next().value);
}

/** The maps are not those of the boxes, or of the picture, any more. */
function forgetMaps() {
  for (const panel of panels) {
    panel.asking?.abort();
    Object.assign(panel, { asking: null, map: null });
    settle(panel.level);
    showPanel(panel);
  }
}

function sayWhatIsShown(panel) {
  if (panels.some(({ asking }) => asking)) return;
  say(`Maps of the ${spoken(panel.map.keypoint)} shown.`);
}

/** Draw what a panel has; while it waits for another map, the old one is dimmed. */
function showPanel({ level, root, map, asking }) {
  const canvas = root.querySelector(".heat");
  const isReady = map !== null && asking === null;
  root.setAttribute("aria-busy", String(asking !== null));
  canvas.hidden = map === null;
  root.querySelector(".empty").hidden = map !== null;
  root.querySelector(".empty").textContent = emptyText(asking);
  for (const kind of [".copy", ".save"]) root.querySelector(kind).disabled = !isReady;
  root.querySelector(".figure").disabled = !chosenPerson()?.pose;
  drawBar(root.querySelector(".bar canvas"), state);
  if (map === null) for (const kind of [".max", ".reading"]) root.querySelector(kind).textContent = "";
  if (!isReady) return;
  const largest = percent(largestOf(map.attention));
  drawMap(canvas, map, state.picture.bitmap, state);
  root.querySelector(".max").textContent = largest;
  root.querySelector(".reading").textContent = readingOf(map, largest);
  canvas.setAttribute("aria-label", `${LEVEL_TITLES[level] ?? level}: ${readingOf(map, largest)}`);
}

/** What stands where no map is. */
function emptyText(asking) {
  if (asking) return "Reading the attention …";
  if (!chosenPerson()?.pose) return "No joints yet";
  return state.joint === null ? "Choose a joint" : "No map";
}

function readingOf(map, largest) {
  const tokens = map.attention.length * map.attention[0].length;
  const joint = spoken(map.keypoint);
  return map.mode === "dependency"
    ? `The ${joint} gives at most ${largest} of its attention to one of ${tokens} tokens.`
    : `A token gives at most ${largest} of its attention to the ${joint}.`;
}

function percent(part) {
  return `${(100 * part).toFixed(part >= 0.1 ? 0 : 1)}\u00a0%`; // a space where no line breaks
}

// What can be taken along: curl commands, JSON files, the picture, and the paper's figure.

const copiedNote = () => (apiKey ? "Copied. Set KEY to your API key." : "Copied.");
let figuring = null; // AbortController of the newest figure

/** A word of a shell command, quoted where it needs to be. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * The command that asks the same; to be run beside the picture.
 * @param {string} path
 * @param {Object} fields without the image.
 * @param {?string} output the file that the answer goes to; null prints it.
 */
function curlCommand(path, fields, output = null) {
  const { name } = state.picture;
  const isPlain = /^[\w./-]+$/.test(name);
  const file = isPlain ? name : `"${name.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
  const words = [`-F ${quoted(`image=@${file}`)}`];
  for (const [key, value] of Object.entries(fields)) words.push(`-F ${quoted(`${key}=${value}`)}`);
  if (apiKey) words.push('-H "X-Api-Key: $KEY"');
  if (output) words.push(`-o ${quoted(output)}`);
  words.push(quoted(new URL(path, document.baseURI).href));
  return `curl ${words.join(" ")}`;
}

function poseCommand() {
  const { image, ...fields } = poseFields();
  return curlCommand("pose", fields);
}

/** The picture of a map, with the threshold that the page shows it with. */
function mapCommand(panel) {
  const fields = { ...mapFields(panel), ...(state.threshold > 0 && { threshold: state.threshold }) };
  return curlCommand("dependency", fields, `${mapName(panel.map)}.png`);
}

function mapName({ keypoint, level, layer, head, mode }) {
  return `${keypoint}-${level}-layer${layer}-${head === "mean" ? "mean" : `head${head}`}-${mode}`;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyFromField(text); // without TLS there is no clipboard but this one
  }
  say(copiedNote());
}

function copyFromField(text) {
  const field = document.createElement("textarea");
  const focused = document.activeElement;
  field.value = text;
  field.className = "quiet";
  field.setAttribute("aria-label", "Text to copy");
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  focused?.focus();
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000); // the download has begun by then
}

function saveJson(content, name) {
  save(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }), name);
}

/** The paper's figure of all joints, drawn by the service. */
async function showFigure(panel) {
  figuring?.abort();
  const controller = new AbortController();
  figuring = controller;
  const { number } = state.picture;
  say("Drawing the figure …");
  try {
    const asking = ask("dependency", figureFields(panel), { signal: controller.signal, as: "blob" });
    const blob = await showingProgress(asking);
    if (figuring !== controller || state.picture.number !== number) return;
    settle("figure");
    openFigure(blob, panel.level);
    say("The figure is open.");
  } catch (error) {
    if (figuring === controller) complain("figure", error, () => showFigure(panel));
  }
}

function figureFields(panel) {
  const { box } = chosenPerson();
  const fields = { image: state.picture.blob, keypoint: "all", level: panel.level, mode: state.mode };
  if (state.threshold > 0) fields.threshold = state.threshold;
  const { layer, head } = chosenAttention(panel);
  if (panel.level === "mhsa") fields.layer = layer; // whose heads are the rows
  else if (head !== "mean") fields.head = head; // in each layer, a row
  return box ? { ...fields, box: JSON.stringify(box) } : fields;
}

function openFigure(blob, level) {
  const url = URL.createObjectURL(blob);
  const title = `All joints, ${LEVEL_TITLES[level] ?? level}`;
  byId("figure-title").textContent = title;
  byId("figure-image").src = url;
  byId("figure-image").alt = `${title}: a map for each of the ${state.model.keypoints.length} joints`;
  Object.assign(byId("figure-save"), { href: url, download: `figure-${level}-${state.mode}.png` });
  byId("figure").addEventListener("close", () => URL.revokeObjectURL(url), { once: true });
  byId("figure").showModal();
}

function listenToPanel(panel) {
  const on = (kind, act) => panel.root.querySelector(kind).addEventListener("click", act);
  on(".copy", () => copy(mapCommand(panel)));
  on(".save", () => saveJson(panel.map, `${mapName(panel.map)}.json`));
  on(".figure", () => showFigure(panel));
}

function listenToTaking() {
  byId("copy-pose").addEventListener("click", () => copy(poseCommand()));
  byId("save-poses").addEventListener("click", () => saveJson(state.answer, "poses.json"));
  byId("save-picture").addEventListener("click", () => save(state.picture.blob, state.picture.name));
  byId("figure-close").addEventListener("click", () => byId("figure").close());
}

// Where it begins: what follows when the picture changes, the controls of both maps, and what is being served.

/** Another picture is here: whatever belongs to the one before is forgotten. */
function pictureChanged() {
  settle("picture", "pose", "figure");
  figuring?.abort();
  mapsKept.clear();
  Object.assign(state, { persons: [{ box: null, pose: null }], chosen: 0, answer: null });
  forgetMaps();
  document.body.classList.add("has-picture");
  byId("workspace").hidden = false;
  byId("save-picture").hidden = !state.picture.isOurs;
  layOutStage();
  listPersons();
  askForPoses();
}

async function loadModel() {
  if (state.model) return;
  try {
    const model = await ask("model");
    if (state.model) return;
    state.model = model;
  } catch (error) {
    complain("model", error, loadModel);
    throw error;
  }
  settle("model");
  const { label, parameters, input, device, precision } = state.model;
  const millions = (parameters / 1e6).toFixed(1);
  const crop = `${input.width} × ${input.height}`;
  byId("model").textContent = `${label} · ${millions} M parameters · ${crop} · ${device}, ${precision}`;
  listJoints();
  buildPanels();
}

/** Threshold and opacity only draw anew; the direction is another map. */
function listenToLook() {
  for (const name of ["threshold", "opacity"]) {
    const slider = byId(name);
    const show = () => {
      state[name] = Number(slider.value);
      const text = `${Math.round(100 * state[name])} %`;
      slider.parentElement.querySelector("output").textContent = text;
      slider.setAttribute("aria-valuetext", text);
      panels.forEach(showPanel);
    };
    slider.addEventListener("input", show);
    show();
  }
  for (const radio of document.querySelectorAll("input[name=mode]")) {
    if (radio.checked) state.mode = radio.value; // a browser may keep the choice over a reload
    radio.addEventListener("change", () => {
      state.mode = radio.value;
      refreshMaps();
    });
  }
}

listenToMessages();
listenToPictures();
listenToGestures();
listenToTaking();
listenToLook();
byId("add-box").addEventListener("click", addBox);
new ResizeObserver(layOutStage).observe(byId("stage"));
loadModel().catch(() => {}); // it has been told

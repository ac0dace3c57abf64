// What the page knows. Boxes are [x, y, w, h] in pixels of the upright picture and cover the pixels x to x + w - 1;
// in edge coordinates, 0 to the picture's width, that is x to x + w.

const state = {
  model: null, // the answer of `model`
  picture: null, // see picture.js
  persons: [], // {box: [x, y, w, h] or null for the whole picture, pose: of the answer of `pose`, or null}
  chosen: 0, // index of the person whose joints are listed
  joint: null, // index of the keypoint whose maps are shown
  answer: null, // the answer of `pose`, while it is that of the boxes
  mode: "dependency",
  threshold: 0,
  opacity: 0.9,
};

const byId = (id) => document.getElementById(id);

/** The person whose joints are listed; undefined before there is a picture. */
function chosenPerson() {
  return state.persons[state.chosen];
}

/** `left_wrist` -> `left wrist`. */
function spoken(jointName) {
  return jointName.replaceAll("_", " ");
}

function jointName(joint) {
  return state.model.keypoints[joint];
}

/** Resolves after some seconds; rejects with the signal's reason when that comes first. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

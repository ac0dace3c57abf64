// The colours of joints and of attention; the numbers are those of the pictures that the service draws.

const SIDE_COLORS = { left: "#ff8c00", right: "#00aaff", middle: "#3cdc3c" };
const SURE_ABOVE = 0.2; // confidence; weaker joints are faint

const ALPHA_EXPONENT = 0.7; // below 1: half of the largest value is more than half as opaque
const BACKGROUND_COLOR = 0.35; // how much of the photograph's colour stays, so that colour means attention
const BACKGROUND_LIGHT = 0.75; // and of its brightness

// 256 colours of matplotlib's inferno (CC0), RGB bytes.
const INFERNO = Uint8Array.from(
  atob(
    "AAAEAQAFAQEGAQEIAgEKAgIMAgIOAwIQBAMSBAMUBQQXBgQZBwUbCAUdCQYfCgciCwckDAgmDQgpDgkrEAktEQowEgoyFAs0FQs3Fgs5GAw8" +
    "GQw+GwxBHAxDHgxFHwxIIQxKIwxMJAxPJgxRKAtTKQtVKwtXLQtZLwpbMQpcMgpeNApfNglhOAliOQljOwlkPQllPglmQApnQgpoRApoRQpp" +
    "RwtqSQtqSgxrTAxrTQ1sTw1sUQ5sUg5tVA9tVQ9tVxBuWRBuWhFuXBJuXRJuXxNuYRNuYhRuZBVuZRVuZxZuaRZuahdubBhubRhubxlucRlu" +
    "chpudBpudRtudxxteBxteh1tfB1tfR5tfx5sgB9sgiBshCBrhSFrhyFriCJqiiJqjCNpjSNpjyRpkCVokiVokyZnlSZnlydmmCdmmihlmylk" +
    "nSlknypjoCpjoitioyxhpSxgpi1gqC5fqS5eqy9erTBdrjBcsDFbsTJaszJatDNZtjRYtzVXuTVWujZVvDdUvThTvzlSwDpRwTpQwztPxDxO" +
    "xj1Nxz5MyD9LykBKy0FJzEJIzkNHz0RG0EVF0kZE00dD1EhC1UpB10s/2Ew+2U092k4821A73VE63lI431M34FU24VY14lc041kz5Fox5Vww" +
    "5l0v514u6GAt6WEr6mMq62Qp62Yo7Gcm7Wkl7mok72wj724h8G8g8XEf8XMd8nQc83Yb83gZ9HkY9XsX9X0V9n4U9oAT94IS94QQ+IUP+IcO" +
    "+IkM+YsL+YwK+Y4J+pAI+pIH+pQH+5YG+5cG+5kG+5sG+50H/J8H/KEI/KMJ/KUK/KYM/KgN/KoP/KwR/K4S/LAU/LIW/LQY+7Ya+7gd+7of" +
    "+7wh+74j+sAm+sIo+sQq+sYt+ccv+cky+cs1+M03+M8699E999NA9tVD9tdG9dlJ9dtM9N1P9N9T9OFW8+Na8+Vd8uZh8uhl8upp8ext8e1x" +
    "8e918fF58vJ98vSC8/WG8/aK9PiO9fmS9vqW+Pua+fyd+v2h/P+k",
  ),
  (character) => character.charCodeAt(0),
);

/** left, right or middle: the person's own side that a joint is on, as `model/sides.py` reads names. */
function sideOf(jointName) {
  const words = (jointName.match(/[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+/g) ?? []).map((word) => word.toLowerCase());
  const sides = { left: "left", right: "right", l: "left", r: "right" };
  const marks = words.filter((word, at) => word.length > 1 ? word === "left" || word === "right"
    : word in sides && (at === 0 || at === words.length - 1));
  if (marks.length === 1 && words.length > 1) return sides[marks[0]];
  const glued = marks.length === 0 && words.length > 0 ? /^(left|right)./.exec(words[0]) : null;
  return glued ? glued[1] : "middle";
}

// The picture: chosen, dropped, pasted or drawn; upright as its EXIF orientation says.

let newestPicture = 0;

/**
 * Show another picture. What cannot be shown leaves the one before in its place.
 * @param {Blob} file
 * @param {{name: string, isOurs: boolean}} options name: for the curl command; isOurs: the user has no file of it.
 */
async function openPicture(file, { name, isOurs = false }) {
  newestPicture += 1;
  const number = newestPicture;
  say("Reading the picture …");
  let picture;
  try {
    // Copied, so that it can be sent again when the file has gone.
    const blob = new Blob([await file.arrayBuffer()], { type: file.type });
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
    picture = { number, name, isOurs, blob, bitmap, width: bitmap.width, height: bitmap.height };
  } catch {
    if (number === newestPicture) {
      complain("picture", new Error(`${name} is not a picture that this browser can show. Take a JPEG, PNG or WebP.`));
    }
    return;
  }
  if (number !== newestPicture) {
    picture.bitmap.close();
    return;
  }
  state.picture?.bitmap.close();
  state.picture = picture;
  pictureChanged();
}

function openFirst(files, fallbackName) {
  const [file] = files;
  if (!file) return false;
  openPicture(file, { name: file.name || fallbackName });
  return true;
}

function listenToPictures() {
  byId("file").addEventListener("change", (event) => {
    openFirst(event.target.files, "picture");
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("sample").addEventListener("click", async () => {
    const sample = await drawSample();
    openPicture(sample, { name: sample.name, isOurs: true });
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (!file) return;
    event.preventDefault();
    openPicture(file, { name: `pasted.${file.type.split("/")[1] || "png"}`, isOurs: true });
  });
  listenToDrops();
}

function listenToDrops() {
  const over = (isOver) => document.body.classList.toggle("dragged-over", isOver);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false);
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(false);
    if (openFirst(event.dataTransfer.files, "picture")) return;
    complain("picture", new Error("That was no file. Drop a JPEG, PNG or WebP picture."));
  });
}

// Images that people bring: files, dropped, pasted, of a camera. They are cropped, never stretched.

const MOST_PHOTO = 2048; // pixels of a photo's longer side; larger ones are scaled down

// The pixels of an image file, the right way up. Raises what the browser raises.
async function decodePhoto(blob) {
  const image = await readPng(new Uint8Array(await blob.arrayBuffer()));
  const exact = image && pixelsOf(image);
  if (exact) return exact;
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  const pixels = drawnPixels(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  return pixels;
}

// The pixels of something that a canvas can draw, such as a photo or a video.
function drawnPixels(source, width, height) {
  const scale = Math.min(1, MOST_PHOTO / Math.max(width, height));
  const [across, down] = [width, height].map((length) => Math.max(1, Math.round(length * scale)));
  const context = new OffscreenCanvas(across, down).getContext(
    "2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "white"; // behind what is transparent
  context.fillRect(0, 0, across, down);
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, across, down);
  const { data } = context.getImageData(0, 0, across, down);
  return new Pixels(across, down, new Uint32Array(data.buffer));
}

// The first file of a drop or of the clipboard, or null.
function fileOf(transfer) {
  return transfer && transfer.files.length ? transfer.files[0] : null;
}

// Lets files be dropped on the whole page. drop(file, event) takes one; target is marked meanwhile.
function listenForDrops(target, drop) {
  const mark = (isOver) => target.classList.toggle("dropping", isOver);
  document.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
  document.addEventListener("drop", (event) => {
    mark(false);
    const file = fileOf(event.dataTransfer);
    if (!file) return;
    event.preventDefault();
    drop(file, event);
  });
}

// The camera in a dialog.
class Camera {
  // take(pixels): gets a photo; tell(text): why there is no camera.
  constructor({ take, tell }) {
    Object.assign(this, { take, tell });
    this.dialog = find("camera");
    this.video = find("camera-video");
    this.stream = null;
    this.dialog.addEventListener("close", () => this.stop());
    find("camera-close").addEventListener("click", () => this.dialog.close());
    find("camera-take").addEventListener("click", () => this.shoot());
  }

  // Whether the browser gives this page a camera.
  static isAllowed() {
    return window.isSecureContext && Boolean(navigator.mediaDevices);
  }

  // Opens the camera. aspect: width by height of what the model sees.
  async open(aspect) {
    this.video.style.aspectRatio = aspect;
    try {
      this.stream = await navigator.mediaDevices.getUserMedia(
        { video: { facingMode: "environment" } });
    } catch (error) {
      this.tell(error.name === "NotAllowedError" ? "The browser did not allow the camera."
        : "No camera was found.");
      return;
    }
    this.dialog.showModal();
    this.video.srcObject = this.stream;
    await this.video.play();
    find("camera-take").disabled = false;
  }

  // Takes a photo.
  shoot() {
    const { videoWidth, videoHeight } = this.video;
    this.take(drawnPixels(this.video, videoWidth, videoHeight));
    this.dialog.close();
  }

  // Switches the camera off.
  stop() {
    find("camera-take").disabled = true;
    this.video.srcObject = null;
    for (const track of this.stream ? this.stream.getTracks() : []) track.stop();
    this.stream = null;
  }
}

// A drawing as part of an address: the bytes of its PNG file, which are deflated, as base64url.

const LONGEST_LINK = 60000; // characters; programs that pass links on cut longer ones

// Bytes as base64url.
function toBase64Url(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

// Bytes of base64url; null where it is none.
function fromBase64Url(text) {
  try {
    return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")),
      (letter) => letter.charCodeAt(0));
  } catch {
    return null;
  }
}

// A model and the bytes of a drawing, or null, as the part of an address after #.
function hashOf(model, bytes) {
  const drawing = bytes ? { drawing: toBase64Url(bytes) } : {};
  return new URLSearchParams({ model, ...drawing }).toString();
}

// The address of this page with a model and the bytes of a drawing.
function linkOf(model, bytes) {
  return `${location.origin}${location.pathname}#${hashOf(model, bytes)}`;
}

// Keeps the state of a link for this tab and address: after a reload, and on the way back.
function keepState(hash) {
  try {
    sessionStorage.removeItem("state"); // nothing rather than an older drawing
    sessionStorage.setItem("state", JSON.stringify([location.hash, hash]));
  } catch {
    // refused or full
  }
}

// The state that was kept for this address, as a Map like readHash's; null where there is none.
function keptState() {
  try {
    const [address, hash] = JSON.parse(sessionStorage.getItem("state"));
    return address === location.hash ? new Map(new URLSearchParams(hash)) : null;
  } catch {
    return null;
  }
}

// Has the browser save a file.
function saveFile(blob, name) {
  const address = URL.createObjectURL(blob);
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

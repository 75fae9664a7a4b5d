"use strict";
// What all pages share: making elements, numbers as text, axes, state in the address.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

// Sets attributes of a node; functions become listeners ("onclick"), null and false are left out.
function setAttributes(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  return node;
}

// An HTML element. Children are nodes or texts; texts stay texts, whatever they hold.
function element(tag, attributes = {}, ...children) {
  const node = setAttributes(document.createElement(tag), attributes);
  node.append(...children);
  return node;
}

// An SVG element, likewise.
function svgElement(tag, attributes = {}, ...children) {
  const node = setAttributes(document.createElementNS(SVG_NAMESPACE, tag), attributes);
  node.append(...children);
  return node;
}

// The element of an id.
function find(id) {
  return document.getElementById(id);
}

// Whole numbers with separators: "10,000".
function formatCount(count) {
  return count.toLocaleString("en-US");
}

// A number with so many digits after the point; "–" for null, words for what is not finite.
function formatNumber(value, digits) {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  return value.toFixed(digits).replace("-", "−");
}

// The digits after the point that a step of an axis needs: 2 for 0.25, 0 for 10.
function digitsOf(step) {
  for (let digits = 0; digits < 12; digits += 1) {
    const scaled = step * 10 ** digits;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return digits;
  }
  return 12;
}

// A step of 1, 2 or 5 times a power of ten that divides a range into at most so many parts.
function niceStep(range, count) {
  const power = 10 ** Math.floor(Math.log10(range / count));
  return [1, 2, 5, 10].map((factor) => factor * power)
    .find((step) => range / step <= count * (1 + 1e-9));
}

// The round numbers of an axis from low to high, at most about count: {step, digits, values}.
function niceTicks(low, high, count) {
  if (!(high > low)) return { step: 1, digits: 2, values: [low] };
  const step = niceStep(high - low, count);
  const values = [];
  const last = high / step + 1e-9;
  for (let index = Math.ceil(low / step - 1e-9) + 0; index <= last; index += 1) { // + 0: not -0
    values.push(index * step);
  }
  return { step, digits: digitsOf(step), values };
}

// The state in the address, as a Map of texts: "#sort=l1&find=a" -> sort: "l1", find: "a".
function readHash() {
  return new Map(new URLSearchParams(location.hash.slice(1)));
}

// Puts state into the address, without an entry in the history. Empty values are left out.
function writeHash(state) {
  const shown = Object.entries(state).filter(([, value]) => value !== null && value !== "");
  const hash = new URLSearchParams(shown).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

// Buttons of which one is pressed. choices: [value, label]; choose(value) is called by a press.
function choiceOf(label, choices, choose) {
  const buttons = choices.map(([value, text]) => element(
    "button", { type: "button", "data-value": value, "aria-pressed": "false",
      onclick: () => choose(value) }, text));
  return element("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

// Marks the pressed one of these.
function pressChoice(group, value) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.value === String(value)));
  }
}

"use strict";
// The page of calls: the same in curl and Python, with this server's address and a model's name.

const { models, token: hasToken } = JSON.parse(find("data").textContent);
const server = location.origin;

// What a call of curl begins with.
function curl(...lines) {
  const header = hasToken ? ["-H 'Authorization: Bearer TOKEN'"] : [];
  return ["curl -fsS", ...header, ...lines].join(" \\\n  ");
}

// A Python program that posts a body and keeps what comes back in `answer`.
function python(imports, body, address, type, ...rest) {
  const header = hasToken ? ', "Authorization": "Bearer TOKEN"' : "";
  return [...imports, "import urllib.request", "", ...body,
    "request = urllib.request.Request(", `    "${server}${address}", body,`,
    `    {"Content-Type": "${type}"${header}})`,
    "with urllib.request.urlopen(request) as answer:", ...rest.map((line) => `    ${line}`)]
    .join("\n");
}

const READ_FILE = (name) => [`with open("${name}", "rb") as file:`, "    body = file.read()"];
const WRITE_FILE = (name) => [`with open("${name}", "wb") as file:`,
  "    file.write(answer.read())"];

// The image file in, the result's file out. query: how the result is wanted.
function imageCalls(model, query = "") {
  const [input, output] = [`input.${model.input}`, query ? "shown.png" : `output.${model.output}`];
  const type = model.input === "png" ? "image/png" : "application/octet-stream";
  return {
    curl: curl(`-H 'Content-Type: ${type}'`, `--data-binary @${input}`,
      `'${server}/${model.name}${query}' -o ${output}`),
    python: python([], READ_FILE(input), `/${model.name}${query}`, type, ...WRITE_FILE(output)),
  };
}

// TensorFlow Serving's signature of files.
function encodedCalls(model) {
  const address = `/v1/models/${model.name}:predict`;
  const [input, output] = [`input.${model.input}`, `output.${model.output}`];
  return {
    curl: `(printf '{"signature_name": "encoded", "instances": [{"b64": "'\n base64 ${input}`
      + ` | tr -d '\\n'\n printf '"}]}') | `
      + curl("-H 'Content-Type: application/json'", "--data-binary @-", `'${server}${address}'`),
    python: python(["import base64", "import json"],
      [`with open("${input}", "rb") as file:`,
        "    image = {\"b64\": base64.b64encode(file.read()).decode()}",
        "body = json.dumps({\"signature_name\": \"encoded\", \"instances\": [image]}).encode()"],
      address, "application/json", "result = json.load(answer)[\"predictions\"][0]",
      `with open("${output}", "wb") as file:`,
      "    file.write(base64.b64decode(result[\"b64\"]))"),
  };
}

// TensorFlow Serving's signature of floats.
function floatCalls(model) {
  const address = `/v1/models/${model.name}:predict`;
  const { height, width, channels, unit } = model;
  const pixel = JSON.stringify(Array(channels).fill(unit));
  return {
    curl: `python3 -c 'print({"instances": [[[${pixel}] * ${width}] * ${height}]})' | `
      + `tr "'" '"' | `
      + curl("-H 'Content-Type: application/json'", "--data-binary @-", `'${server}${address}'`),
    python: python(["import json"],
      [`image = [[${pixel}] * ${width}] * ${height}  # rows of pixels`,
        "body = json.dumps({\"instances\": [image]}).encode()"],
      address, "application/json", "rows = json.load(answer)[\"predictions\"][0]"),
  };
}

// A piece of code with a button that copies it.
function codeBlock(text) {
  const button = element("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
  } }, "Copy");
  const code = element("code", {}, text);
  return element("div", { class: "call" }, element("pre", { tabindex: "0" }, code), button);
}

function section(title, about, calls) {
  return element("section", { class: "card" }, element("h2", {}, title), element("p", {}, about),
    codeBlock(calls[find("language").value]));
}

function show() {
  const model = models[find("model").selectedIndex];
  const parts = [section("An image", "The bytes of an image file are posted; the answer is the "
    + "file of the result, of the same size.", imageCalls(model))];
  if (model.drawn) {
    parts.push(section("As people look at it", "The same result as test mode shows it: "
      + "values in colours with their scale, label maps in their colours.",
    imageCalls(model, "?show=output")));
  }
  parts.push(section("TensorFlow Serving: image files",
    "TensorFlow Serving's REST API, signature encoded: files in base64, one or several.",
    encodedCalls(model)));
  if (model.floats) {
    parts.push(section("TensorFlow Serving: numbers", "TensorFlow Serving's REST API, signature "
      + "serving_default: "
      + `${model.unit === 0.5 ? "values from 0 to 1" : "values in the units of the files"}, `
      + "rows of pixels with one number for each channel.", floatCalls(model)));
  }
  find("calls").replaceChildren(...parts);
}

for (const { name } of models) find("model").append(element("option", {}, name));
find("model-choice").hidden = models.length < 2;
find("token").hidden = !hasToken;
const wanted = models.findIndex(({ name }) => name === readHash().get("model"));
find("model").selectedIndex = Math.max(wanted, 0);
for (const id of ["model", "language"]) find(id).addEventListener("change", show);
show();

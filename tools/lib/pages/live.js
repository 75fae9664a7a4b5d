// The live loop: asks a model for the result of the newest input. One request is in flight at most;
// what changes meanwhile is sent once, when it is back. So an older answer never replaces a newer.

const MID_STROKE_PAUSE = 40; // milliseconds between a change in mid-stroke and its request
const MID_STROKE_LATENCY = 400; // of the last answer, in milliseconds, up to which it is asked for
const BUSY_PAUSE = 1; // seconds until the next try, where the server names none
const TIME_LIMIT = 180; // seconds for an answer

// The one line of an error that a server answers with, or what its status means.
async function errorText(response) {
  try {
    const { error } = await response.json();
    if (typeof error === "string" && error) return error;
  } catch {
    // not JSON: perhaps of a proxy
  }
  return `The server answers with the status ${response.status}.`;
}

// The milliseconds of a part in a Server-Timing header, or null.
function serverTime(header, name) {
  const found = new RegExp(`(?:^|,)\\s*${name}\\s*;[^,]*dur=([\\d.]+)`).exec(header || "");
  return found ? Number(found[1]) : null;
}

// The result in a server's answer.
async function readAnswer(response) {
  const step = response.headers.get("X-Model-Step");
  return { blob: await response.blob(), step: step === null || step === "" ? null : Number(step),
    networkMilliseconds: serverTime(response.headers.get("Server-Timing"), "model") };
}

// Whether two requests ask for the same result.
function isSameRequest(one, other) {
  return Boolean(one && other) && one.address === other.address && one.version === other.version
    && one.bytes.length === other.bytes.length
    && one.bytes.every((byte, at) => byte === other.bytes[at]);
}

class LiveLoop {
  // prepare(): the request of the input as it is now, {address, version, type, bytes}, or null;
  // show(result): an answer {blob, step, milliseconds, networkMilliseconds}; told(): the state has
  // changed.
  constructor({ prepare, show, told }) {
    Object.assign(this, { prepare, show, told });
    this.isLive = true;
    this.changes = 0; // how often the input has changed
    this.wanted = 0; // the change up to which a result is wanted
    this.answered = 0; // the one up to which there is one, or an error
    this.last = null; // the request of the result that is shown
    this.latency = 0; // of the last answer, in milliseconds
    this.isBusy = false; // whether a request is in flight
    this.error = null; // the server's words about the newest input
    this.isGone = false; // whether the server does not answer
    this.waiting = null; // the timer of a server that was too busy
    this.timer = null; // of a change in mid-stroke
  }

  // Whether the result that is shown is of an older input.
  get isStale() {
    return this.answered < this.changes;
  }

  // The input has changed. isEnd: at the end of a stroke, not in the middle.
  change(isEnd = true) {
    this.changes += 1;
    clearTimeout(this.timer);
    if (this.isLive && isEnd) this.run();
    else if (this.isLive && this.latency < MID_STROKE_LATENCY) {
      this.timer = setTimeout(() => this.run(), MID_STROKE_PAUSE);
    }
    this.told();
  }

  // Asks for the result of the input as it is now.
  run() {
    clearTimeout(this.timer);
    this.wanted = this.changes;
    this.pump();
  }

  // Asks again even if the input is the same: the model is another one.
  renew() {
    this.last = null;
    this.change();
  }

  // The server answers again.
  resume() {
    if (!this.isGone) return;
    this.isGone = false;
    this.told();
    this.pump();
  }

  // Switches live results on or off.
  setLive(isLive) {
    this.isLive = isLive;
    if (isLive && this.isStale) this.run();
    else this.told();
  }

  // Sends what is wanted, one after the other.
  async pump() {
    if (this.isBusy) return;
    this.isBusy = true;
    this.told();
    while (this.wanted > this.answered && !this.isGone && !this.waiting) await this.ask();
    this.isBusy = false;
    this.told();
  }

  // Sends the newest input, and shows the answer.
  async ask() {
    const change = this.changes;
    this.wanted = change;
    const request = await this.prepare();
    if (!request || isSameRequest(request, this.last)) {
      if (request) this.error = null;
      this.answered = change;
      return;
    }
    const started = performance.now();
    let answer;
    try {
      const response = await fetch(request.address, { method: "POST", body: request.bytes,
        headers: { "Content-Type": request.type },
        signal: AbortSignal.timeout(TIME_LIMIT * 1000) });
      if (response.status === 503) {
        this.waitFor(Number(response.headers.get("Retry-After")) || BUSY_PAUSE);
        return;
      }
      answer = response.ok ? await readAnswer(response) : { error: await errorText(response) };
    } catch {
      this.isGone = true;
      return;
    }
    this.latency = performance.now() - started;
    this.answered = change;
    this.error = answer.error || null;
    if (answer.error) return;
    this.last = request;
    this.error = await this.show({ ...answer, request, milliseconds: this.latency });
    this.told();
  }

  // Tries again after so many seconds.
  waitFor(seconds) {
    this.waiting = setTimeout(() => {
      this.waiting = null;
      this.pump();
    }, seconds * 1000);
  }
}

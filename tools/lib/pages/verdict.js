"use strict";
// Whether a run is getting better, in a sentence.

// A verdict in two words.
const TONES = { better: "Improving.", flat: "Levelled off.", worse: "Getting worse.",
                early: "Too early to tell." };
const FEW = 5; // validations from which something is told
const PATIENCE = 3; // validations after the best one from which it counts as the end of improving
const CERTAIN = 2.5; // times the noise by which averages differ if they do
const FEW_VALUES = 10; // of training from which something is told
const BLOCKS = 4; // averages that are compared on each side where there are many of these
const PER_BLOCK = 4; // values in the smallest of the blocks
const NORMAL_NOISE = 0.826; // of values with a standard deviation of 1: 0.6745 * sqrt(1.5)

function average(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function averageOf(points) {
  return average(points.map(({ value }) => value));
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : 0;
}

// The index of the best point, the first of equals.
function bestIndex(points, better) {
  const sign = better === "higher" ? -1 : 1;
  return points.reduce((best, point, index) =>
    sign * point.value < sign * points[best].value ? index : best, 0);
}

// How much better a value is than an earlier one, as a part of that; negative where it is worse.
function gain(value, earlier, better) {
  const change = better === "higher" ? value - earlier : earlier - value;
  return earlier === 0 ? 0 : change / Math.abs(earlier);
}

// How far a value is from an earlier one, in words.
function difference(value, earlier, chart) {
  return chart.unit ? `${formatValue(Math.abs(value - earlier))} ${chart.unit}`
    : percent(Math.abs(gain(value, earlier, chart.better)));
}

// How far points usually lie from the middle of their neighbours, which a trend does not change.
function noise(points) {
  const inner = points.slice(1, -1);
  return median(inner.map(({ value }, index) =>
    Math.abs(value - (points[index].value + points[index + 2].value) / 2)));
}

// The chart and line that tell best whether a run is getting better: a validation line, or else
// the first line of a chart whose direction is known. null where there is none.
function chooseMeasure(run) {
  const known = run.charts.filter((chart) => chart.better);
  const metric = run.best ? run.best.metric : "";
  const charts = [...known.filter((chart) => chart.title === metric), ...known];
  for (const chart of charts) {
    const line = chart.lines.find(isValidation);
    if (line && finite(pointsOf(run.columns, line.column)).length > 0) {
      return { chart, line, validation: true };
    }
  }
  const chart = known.find(({ lines }) => lines.some((line) => !isValidation(line)));
  return chart
    ? { chart, line: chart.lines.find((line) => !isValidation(line)), validation: false } : null;
}

function isValidation(line) {
  return /^val/i.test(line.name);
}

// What can be said about a run: {tone: "better" | "worse" | "flat" | "early", text, step}; step is
// the best one, where there is one to look at.
function judge(run) {
  const measure = chooseMeasure(run);
  if (!measure) {
    return { tone: "early", text: "No chart here tells whether this run is getting better." };
  }
  const points = finite(pointsOf(run.columns, measure.line.column));
  return measure.validation ? judgeValidation(run, measure, points)
    : judgeTraining(measure, points);
}

// By the best value so far, and by how long ago it was.
function judgeValidation(run, { chart, line }, points) {
  const name = `Validation ${chart.title}`;
  const best = bestIndex(points, chart.better);
  const last = points.length - 1;
  const { step, value } = points[best];
  if (points.length < FEW) {
    const times = ["once", "twice", "three times", "four times"][last];
    return { tone: "early", step, text: `${name} has been measured ${times} so far, ` +
      `best ${formatValue(value)} at step ${formatCount(step)}: ${describeNeed(points, FEW)}` };
  }
  const recent = Math.max(1, Math.round(points.length / 4));
  if (last - best < PATIENCE || best > 0 && last - best < recent) {
    return judgeRecent(run, name, points, best, points.length - recent, chart);
  }
  const text = `${name} has not improved for ${formatCount(points[last].step - step)} steps: it ` +
    `was best at step ${formatCount(step)} (${formatValue(value)})`;
  if (!isWorse(points, best, chart.better)) {
    return { tone: "flat", step, text: `${text}.${describeMemorizing(run, chart, points)}` };
  }
  const now = averageOf(points.slice(-PATIENCE));
  return { tone: "worse", step, text: `${text} and is now ` +
    `${difference(now, value, chart)} worse (${formatValue(now)}).` +
    describeOverfitting(run, chart, step) };
}

// How many values a verdict needs, and when there will be so many.
function describeNeed(points, count) {
  const { step } = points[points.length - 1];
  const apart = points.length > 1 ? (step - points[0].step) / (points.length - 1) : step;
  return `a verdict needs ${count}, which there are at about step ` +
    `${formatCount(Math.round(step + (count - points.length) * apart))}.`;
}

// Whether the newest points are worse than those around the best. The best itself does not count:
// it is partly luck.
function isWorse(points, best, better) {
  const around = [-2, -1, 1, 2].map((offset) => points[best + offset]).filter(Boolean);
  const change = averageOf(points.slice(-PATIENCE)) - averageOf(around);
  return (better === "higher" ? -change : change) > CERTAIN * noise(points);
}

// When the best is among the newest points, from an index on: how much better it is than what was
// the best before these.
function judgeRecent(run, name, points, best, newest, chart) {
  const { step, value } = points[best];
  const earlier = points.slice(0, Math.min(best, newest));
  const before = earlier[bestIndex(earlier, chart.better)];
  const ago = points.length - 1 - best;
  const found = `best ${formatValue(value)} at step ${formatCount(step)}` +
    (ago ? `, ${plural(ago, "validation")} ago` : "");
  const than = `${difference(value, before.value, chart)} better than ` +
    `${formatCount(step - before.step)} steps earlier (${formatValue(before.value)})`;
  // with few points each is often a little better than all before it, by chance
  return Math.abs(value - before.value) > (1 + FEW / points.length) * noise(points)
    ? { tone: "better", step, text: `${name} is still improving: ${found}, ${than}.` }
    : { tone: "flat", step, text: `${name} has hardly improved: ${found}, ${than}, which is ` +
      `within its usual ups and downs.${describeMemorizing(run, chart, points)}` };
}

// The chart that shows training and validation, this one if it does, and the points of training;
// null where there is none.
function findTraining(run, chart) {
  const shown = [chart, ...run.charts].find(({ better, lines }) => better
    && lines.some(isValidation) && !lines.every(isValidation));
  const line = shown && shown.lines.find((other) => !isValidation(other));
  return line ? { chart: shown, points: finite(pointsOf(run.columns, line.column)) } : null;
}

// What training did since a step at which validation was best.
function describeOverfitting(run, measured, step) {
  const { chart, points } = findTraining(run, measured) || { points: [] };
  const after = points.filter((point) => point.step > step);
  const before = points.filter((point) => point.step <= step).slice(-Math.ceil(after.length / 4));
  const newest = after.slice(-Math.ceil(after.length / 4));
  if (Math.min(before.length, newest.length) < FEW) return "";
  const [old, now] = [before, newest].map(averageOf);
  return gain(now, old, chart.better) > 0.02
    ? ` Meanwhile ${chart.title} on the training images improved by ` +
      `${percent(gain(now, old, chart.better))}, a sign of overfitting.` : "";
}

// That training still improves, clearly, since validation came as near to its best as it usually
// goes up and down.
function describeMemorizing(run, measured, validations) {
  const { chart, points } = findTraining(run, measured) || { points: [] };
  const best = validations[bestIndex(validations, measured.better)].value;
  const level = validations.find(({ value }) =>
    Math.abs(value - best) <= CERTAIN * noise(validations));
  const after = points.filter(({ step }) => step >= level.step);
  const size = Math.floor(after.length / 4);
  if (size < FEW) return "";
  const [first, third, fourth] = [0, 2, 3].map((part) =>
    after.slice(part * size, (part + 1) * size));
  const [old, now] = [first, fourth].map(averageOf);
  const improves = [first, third].every((earlier) => isBetter(earlier, fourth, chart.better));
  return improves && gain(now, old, chart.better) > 0.02
    ? ` Meanwhile ${chart.title} on the training images still ` +
      `${chart.better === "higher" ? "rises" : "falls"}, from ${formatValue(old)} to ` +
      `${formatValue(now)}: it begins to learn these by heart.` : "";
}

// Whether newer points are better than older ones by more than their noise.
function isBetter(older, newer, better) {
  const change = averageOf(newer) - averageOf(older);
  return (better === "higher" ? change : -change) > CERTAIN * errorOf(older, newer);
}

// The standard error of the difference of two averages, by the noise of the points around their
// trend.
function errorOf(older, newer) {
  return noise([...older, ...newer]) / NORMAL_NOISE
    * Math.sqrt(1 / older.length + 1 / newer.length);
}

// The newer half of the values and the older one, and how far apart their averages certainly are.
function splitFew(points) {
  const half = Math.floor(points.length / 2);
  const [old, now] = [points.slice(0, half), points.slice(-half)];
  return { old, now, certain: CERTAIN * errorOf(old, now) };
}

// The last quarter of the values and the one before it, likewise. Losses that drift up and down for
// a while are not independent of each other, averages of blocks nearly are.
function splitMany(points) {
  const size = Math.floor(points.length / 4 / BLOCKS);
  const tail = points.slice(-2 * BLOCKS * size);
  const averages = Array.from({ length: 2 * BLOCKS }, (_, block) =>
    averageOf(tail.slice(block * size, (block + 1) * size)));
  const sum = variance(averages.slice(0, BLOCKS)) + variance(averages.slice(BLOCKS));
  return { old: tail.slice(0, BLOCKS * size), now: tail.slice(BLOCKS * size),
           certain: 2 * Math.sqrt(sum / BLOCKS) };
}

// By the averages of values, the newest and as many before: of all values while there are few, so
// that the fall at the beginning counts.
function judgeTraining({ chart, line }, points) {
  if (points.length < FEW_VALUES) {
    return { tone: "early", text: points.length === 0 ? "There are no figures yet."
      : `There ${points.length === 1 ? "is" : "are"} only ${plural(points.length, "value")} of ` +
        `${chart.title} so far: ${describeNeed(points, FEW_VALUES)}` };
  }
  const split = points.length < 4 * BLOCKS * PER_BLOCK ? splitFew : splitMany;
  const { old, now, certain } = split(points);
  const change = averageOf(now) - averageOf(old);
  const won = gain(averageOf(now), averageOf(old), chart.better);
  const steps = formatCount(now[now.length - 1].step - now[0].step);
  const what = `${chart.title} on the training images`;
  const mean = `average ${formatValue(averageOf(now))}`;
  const about = "Without validation nothing is known about other images.";
  if (Math.abs(change) <= certain) {
    return { tone: "flat", text: `${what} has not clearly changed in the last ${steps} steps ` +
      `(${mean}). ${about}` };
  }
  const [trend, word] = won > 0 ? ["is still improving", "better"] : ["is getting worse", "worse"];
  return { tone: word, text: `${what} ${trend}: ${mean} over the last ${steps} steps, ` +
    `${percent(Math.abs(won))} ${word} than over as many before. ${about}` };
}

function variance(values) {
  const middle = average(values);
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
}

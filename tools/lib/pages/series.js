"use strict";
// Arithmetic on the figures of a run. A point is {step, value}; its value may be NaN or infinite.

// The points of a column from a step on, without rows in which it was not measured (null).
function pointsOf(columns, column, from = 0) {
  const points = [];
  const values = columns[column] || [];
  columns.step.forEach((step, row) => {
    const value = values[row];
    if (step >= from && value !== null && value !== undefined) {
      points.push({ step, value });
    }
  });
  return points;
}

// Those points whose value is a number.
function finite(points) {
  return points.filter((point) => Number.isFinite(point.value));
}

// Each point averaged with those before it, weighted by exp(-steps between them / span). As the
// weights are divided by their sum, the first points are not drawn towards 0.
function smooth(points, span) {
  let sum = 0;
  let weights = 0;
  let last = null;
  return points.map(({ step, value }) => {
    if (!Number.isFinite(value)) return { step, value };
    const kept = last === null || span <= 0 ? 0 : Math.exp((last - step) / span);
    sum = sum * kept + value;
    weights = weights * kept + 1;
    last = step;
    return { step, value: sum / weights };
  });
}

// Runs of neighbouring points that can be drawn, which is not so where a value is not finite.
function splitAtGaps(points, drawable = Number.isFinite) {
  const parts = [[]];
  for (const point of points) {
    if (drawable(point.value)) {
      parts[parts.length - 1].push(point);
    } else {
      parts.push([]);
    }
  }
  return parts.filter((part) => part.length > 0);
}

// At most four points for each column of pixels: the first, the lowest, the highest, the last.
function thin(points, columnOf) {
  const kept = [];
  for (let start = 0; start < points.length;) {
    const column = columnOf(points[start].step);
    let [end, low, high] = [start, start, start];
    for (; end < points.length && columnOf(points[end].step) === column; end++) {
      low = points[end].value < points[low].value ? end : low;
      high = points[end].value > points[high].value ? end : high;
    }
    const rows = new Set([start, Math.min(low, high), Math.max(low, high), end - 1]);
    rows.forEach((row) => kept.push(points[row]));
    start = end;
  }
  return kept;
}

// The index in a list of rising numbers that is nearest to a number, -1 in an empty list.
function nearestIndex(numbers, wanted) {
  let [low, high] = [0, numbers.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    [low, high] = numbers[middle] <= wanted ? [middle, high] : [low, middle];
  }
  return high < 0 || wanted - numbers[low] <= numbers[high] - wanted ? Math.min(low, high) : high;
}

// The round numbers of a log axis: 1, 2 and 5 in each power of ten, or powers alone where these are
// many, at most about count.
function logTicks(low, high, count) {
  const first = Math.floor(Math.log10(low));
  const powers = Math.ceil(Math.log10(high)) - first;
  const factors = powers * 3 > count * 2 ? [1] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(powers / (2 * count)));
  const ticks = [];
  for (let power = first; power <= first + powers; power += every) {
    ticks.push(...factors.map((factor) => factor * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

// ---- texts

// A part as a percentage with two digits: "1.9%", "12%".
function percent(part) {
  return `${Number((100 * part).toPrecision(2))}%`;
}

// A value with four digits.
function formatValue(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "infinite" : "−infinite";
  const size = Math.abs(value);
  const text = size > 0 && (size < 1e-4 || size >= 1e6) ? value.toExponential(2)
    : size >= 1e4 ? value.toFixed(0) : size > 0 ? value.toPrecision(4) : "0";
  return text.replace("-", "−");
}

// Seconds as a person says them: "12 s", "9 min", "3 h 20 min", "4 days".
function formatDuration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`
    : `${Math.round(hours / 24)} days`;
}

// A number of things: "1 row", "2 rows".
function plural(count, name) {
  return `${formatCount(count)} ${name}${count === 1 ? "" : "s"}`;
}

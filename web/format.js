// Numbers and times for people. Pure.

const two = (n) => String(n).padStart(2, '0');

// "14:02:07", with the date when it is another day than `now`.
export function time(us, nowMs = Date.now()) {
  if (!us) return '';
  const d = new Date(us / 1000), now = new Date(nowMs);
  const clock = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}`;
  if (d.toDateString() === now.toDateString()) return clock;
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock}`;
}

// "3 d 4 h", "12 min", "8 s": the two largest units.
export function span(us) {
  let s = Math.max(0, Math.round(us / 1e6));
  if (s < 60) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return s % 60 && m < 10 ? `${m} min ${s % 60} s` : `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 48) return m % 60 && h < 24 ? `${h} h ${m % 60} min` : `${h} h`;
  const d = Math.floor(h / 24);
  return h % 24 && d < 10 ? `${d} d ${h % 24} h` : `${d} d`;
}

// Microseconds as a latency: "240 µs", "3.1 ms", "1.2 s".
export function latency(us) {
  if (us == null) return '–';
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${short(us / 1000)} ms`;
  return `${short(us / 1e6)} s`;
}

// How long something took: to the part of a second while that says something.
export const took = (us) => (us < 1e7 ? latency(us) : span(us));

// Three digits that matter.
export function short(x) {
  if (x == null || Number.isNaN(x)) return '–';
  if (x === 0) return '0';
  const a = Math.abs(x);
  if (a >= 1e6) return x.toExponential(1).replace('e+', 'e');
  if (a >= 100) return Math.round(x).toLocaleString('en');
  if (a >= 10) return x.toFixed(1);
  if (a >= 0.01) return x.toFixed(2);
  return x.toExponential(1);
}

export const count = (n) => (n ?? 0).toLocaleString('en');
export const percent = (x, digits = 1) => (x == null ? '–' : `${(100 * x).toFixed(digits)}%`);

export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

export const OBJECTIVES = { accuracy: 'Accuracy', latency_p99: 'Latency p99', availability: 'Availability' };

// How an objective stands: "93.7% (92.1% to 95.1%, 1,873 labels)".
export function valueText(o) {
  if (o.value == null) return 'not known yet';
  if (o.objective === 'latency_p99') return latency(o.value);
  const v = percent(o.value, o.objective === 'availability' ? 3 : 1);
  return o.labelled ? `${v} (${percent(o.lower)} to ${percent(o.upper)}, ${count(o.labelled)} labels)` : v;
}

// 9223372036854775807 comes as 2^63: "never".
export const never = (us) => us == null || us >= 9e18;

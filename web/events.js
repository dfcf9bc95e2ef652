// A bounded list of events, oldest first, without gaps between what it holds. Pure.

export const EVENTS_MAX = 10000;

export class Events {
  constructor(max = EVENTS_MAX) {
    this.max = max;
    this.list = [];
    this.last = 0; // the newest seq that was taken
    this.version = 0; // rises with each change
    this.more = new Map(); // seq of an alarm -> how many features it is about by now
  }

  count(events) {
    for (const e of events) if (e.first) this.more.set(e.first, Math.max(e.named ?? 0, this.more.get(e.first) ?? 0));
  }

  // What was seen before is not taken again: a stream that comes back may repeat.
  push(events) {
    const fresh = events.filter((e) => e.seq > this.last);
    if (!fresh.length) return 0;
    this.last = fresh[fresh.length - 1].seq;
    this.list.push(...fresh);
    this.count(fresh);
    // In large steps: cutting one by one would move the whole list for each event.
    if (this.list.length > this.max * 1.1) this.list = this.list.slice(-this.max);
    this.version++;
    return fresh.length;
  }

  // Older ones, oldest first, before what is held; false when there is no room.
  prepend(events) {
    if (this.list.length >= this.max) return false;
    const first = this.list.length ? this.list[0].seq : Infinity;
    this.list = [...events.filter((e) => e.seq < first), ...this.list];
    this.count(events);
    if (!this.last && this.list.length) this.last = this.list[this.list.length - 1].seq;
    this.version++;
    return true;
  }

  get first() {
    return this.list.length ? this.list[0].seq : 0;
  }
}

// Cuts bytes that come in pieces into lines.
export function lineCutter(onLine) {
  const decoder = new TextDecoder();
  let rest = '';
  return (bytes) => {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
    rest = lines.pop();
    for (const line of lines) if (line) onLine(line);
  };
}

// Waits between tries: doubling from 0.5 s to 15 s, a fifth of it by chance so that pages don't come back together.
export function backOff(tries, random = Math.random) {
  return Math.min(15000, 500 * 2 ** Math.min(tries, 6)) * (0.8 + 0.4 * random());
}

// Rows of the API's time series as columns for charts. Pure.

const roleOrder = { champion: 0, live: 0, canary: 1, shadow: 2 };

// [{start_us, version, role, ...}] -> {x: seconds, variants: [{name, version, role, rows: [row|null]}]}
export function columns(points, bucketUs) {
  const at = new Map(), variants = new Map();
  for (const p of points) at.set(p.start_us, null);
  const starts = [...at.keys()].sort((a, b) => a - b);
  // A gap is a gap: a bucket without rows between two that have some breaks the line.
  const x = [];
  for (const t of starts) {
    if (x.length && t - x[x.length - 1] > 1.5 * bucketUs) x.push(x[x.length - 1] + bucketUs);
    x.push(t);
  }
  x.forEach((t, i) => at.set(t, i));
  for (const p of points) {
    const name = `v${p.version} ${p.role}`;
    if (!variants.has(name)) {
      variants.set(name, { name, version: p.version, role: p.role, rows: new Array(x.length).fill(null) });
    }
    variants.get(name).rows[at.get(p.start_us)] = p;
  }
  const list = [...variants.values()].sort((a, b) =>
    (roleOrder[a.role] ?? 9) - (roleOrder[b.role] ?? 9) || b.version - a.version);
  return { x: x.map((t) => t / 1e6), variants: list };
}

export const column = (variant, value) => variant.rows.map((p) => (p ? value(p) : null));

export function last(list) {
  for (let i = list.length - 1; i >= 0; i--) if (list[i] != null) return list[i];
  return null;
}

// Share of the answered requests; shadow copies answer nobody.
export function shares(variants) {
  const live = variants.filter((v) => v.role !== 'shadow');
  return live.map((v) => ({ ...v, share: v.rows.map((p, i) => {
    let all = 0;
    for (const o of live) all += o.rows[i]?.requests ?? 0;
    return all ? (p?.requests ?? 0) / all : null;
  }) }));
}

// Small pieces of page. Text only ever enters the document as text nodes and attributes, never as markup.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'onclick') node.addEventListener('click', value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

export const number = (value) =>
  value === null || value === undefined ? '–' : Math.round(value).toLocaleString('en-US');
export const percent = (part, whole) => (whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '–');

export function duration(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  return `${(ms / 1000).toFixed(2)} s`;
}

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (value >= 1024 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

export function age(seconds) {
  const whole = Math.floor(seconds);
  const parts = [
    [Math.floor(whole / 86400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ].filter(([count]) => count > 0);
  return parts.length === 0 ? '0s' : parts.slice(0, 2).map(([count, unit]) => `${count}${unit}`).join(' ');
}

export function meter(share, kind = '') {
  const bar = el('i');
  bar.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  return el('div', { class: `meter ${kind}` }, bar);
}

export const pill = (text, kind) => el('span', { class: `pill ${kind}` }, text);
export const cell = (content, kind) => el('td', { class: kind }, ...[content].flat());

export function tile(label, value, under, share, kind) {
  return el('div', { class: 'tile' }, el('div', { class: 'label' }, label), el('div', { class: 'value' }, value),
            el('div', { class: 'under' }, under), share === undefined ? null : meter(share, kind));
}

export function definitions(entries) {
  return el('dl', { class: 'card' },
            entries.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, String(value)))));
}

const SVG = 'http://www.w3.org/2000/svg';
function svg(tag, attributes) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// `points`: {predicted, delivered} in 0..1 or null, oldest first; drawn right-aligned over `span` samples.
export function chart(points, span) {
  const plot = svg('svg', { viewBox: `0 0 ${span - 1} 100`, preserveAspectRatio: 'none', role: 'img' });
  plot.setAttribute('aria-label', 'hit rate over the last two minutes');
  for (const y of [0, 50, 100]) plot.append(svg('line', { class: 'grid', x1: 0, x2: span - 1, y1: y, y2: y }));
  for (const name of ['predicted', 'delivered']) {
    const first = span - points.length;
    const line = points.map((point, i) => (point[name] === null ? null : `${first + i},${(100 * (1 - point[name])).toFixed(2)}`))
      .filter((text) => text !== null);
    plot.append(svg('polyline', { class: name, points: line.join(' ') }));
  }
  return el('div', { class: 'chart-frame' },
            el('div', { class: 'chart-axis' }, el('span', {}, '100 %'), el('span', {}, '50 %'), el('span', {}, '0 %')), plot);
}

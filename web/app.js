// Asks the API once a second and shows the answers. Keeps no state but what is unfolded and the chart's last two minutes.
import { age, bytes, cell, chart, definitions, duration, el, meter, number, percent, pill, tile } from './view.js';

const PERIOD_MS = 1000;
const SPAN = 120;
const LISTED = 200;
const SHOWN = 40;

const place = (id) => document.getElementById(id);
const openEngines = new Set();
const openRequests = new Map(); // id -> full record, null while it is fetched
const history = [];
let before = null; // {at, lookups} of the last poll

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

function toggle(set, key) {
  if (!set.delete(key)) set.add(key);
}

// Σ cached / Σ prompt tokens over the listed requests whose engine reported its cached tokens.
function hitRates(requests) {
  let prompt = 0;
  let predicted = 0;
  let delivered = 0;
  for (const request of requests) {
    if (request.delivered_cached_tokens === null) continue;
    prompt += request.prompt_tokens;
    predicted += request.predicted_cached_tokens;
    delivered += request.delivered_cached_tokens;
  }
  return prompt === 0 ? { predicted: null, delivered: null }
    : { predicted: predicted / prompt, delivered: delivered / prompt };
}

function showHeader(status) {
  const ready = place('ready');
  ready.textContent = status.ready ? 'ready' : `not ready: ${status.why_not}`;
  ready.className = `pill ${status.ready ? 'good' : 'caution'}`;
  place('uptime').textContent = `up ${age(status.uptime_seconds)}`;
  place('tokenizer').textContent = status.tokenizer.loaded ? `exact tokens by ${status.tokenizer.backend}`
    : `no exact tokens${status.tokenizer.note ? `: ${status.tokenizer.note}` : ''}`;
}

function showTiles(status, index, rates) {
  const now = performance.now();
  const perSecond = before === null ? 0 : Math.max(0, (status.lookups - before.lookups) / ((now - before.at) / 1000));
  before = { at: now, lookups: status.lookups };
  const rate = (value) => (value === null ? '–' : `${(100 * value).toFixed(1)} %`);
  const evicted = Object.entries(index.evictions).map(([reason, count]) => `${number(count)} ${reason}`).join(', ');
  place('tiles').replaceChildren(
    tile('Engines healthy', `${status.healthy_endpoints} / ${status.endpoints}`, `${number(status.inflight)} requests in flight`),
    tile('Requests', `${perSecond.toFixed(1)} /s`, `${number(status.lookups)} looked up since start`),
    tile('Hit rate, newest requests', rate(rates.delivered), `predicted ${rate(rates.predicted)}`, rates.delivered ?? 0),
    tile('Predictions exact', percent(status.prediction.exact, status.prediction.requests),
         `${number(status.prediction.predicted_tokens)} predicted, ${number(status.prediction.delivered_tokens)} delivered tokens`),
    tile('Index', `${number(index.blocks)} blocks`,
         `${bytes(index.bytes)} of ${bytes(index.budget_bytes)}; gone: ${evicted}`, index.bytes / Math.max(1, index.budget_bytes), 'cool'),
  );
}

function engineCard(engine) {
  const events = engine.events;
  return definitions([
    ['URL', engine.url],
    ['Engine version', engine.engine_version || '–'],
    ['Models', engine.models.map((model) => model.id).join(', ') || '–'],
    ['Labels', Object.entries(engine.labels).map(([key, value]) => `${key}=${value}`).join(', ') || '–'],
    ['Ranks', engine.data_parallel],
    ['Block size', engine.block_size || '–'],
    ['Resident / capacity', `${number(engine.blocks)} / ${engine.capacity_blocks ? number(engine.capacity_blocks) : '–'}`],
    ['Event formats', engine.formats.join(', ') || '–'],
    ['Replay', engine.replay ? 'offered' : 'not offered'],
    ['Prefix caching', engine.prefix_caching ? 'on' : 'off'],
    ['Batches received', number(events.received)],
    ['Last sequence', events.last_seq < 0 ? '–' : number(events.last_seq)],
    ['Gaps / replayed', `${number(events.gaps)} / ${number(events.replayed)}`],
    ['Restarts', number(events.restarts)],
    ['Errors / skipped', `${number(events.errors)} / ${number(events.skipped)}`],
    ['Last event', events.last_message_age_ms === null ? '–' : `${age(events.last_message_age_ms / 1000)} ago`],
    ['Tokens predicted', number(engine.prediction.predicted_tokens)],
    ['Tokens delivered', number(engine.prediction.delivered_tokens)],
    ['Predictions exact', `${number(engine.prediction.exact)} of ${number(engine.prediction.requests)}`],
    ['Token parity', `${number(engine.token_parity.equal)} of ${number(engine.token_parity.checked)}`],
    ['Prefill under way', `${number(engine.inflight.prefill_tokens)} tokens`],
    ['Load scraped', engine.load.age_ms === null ? 'never' : `${duration(engine.load.age_ms)} ago`],
  ]);
}

function eventsCell(events) {
  const [text, kind] = events.silent ? ['silent', 'bad'] : events.connected ? ['live', 'good'] : ['off', 'caution'];
  const trouble = [events.gaps > 0 ? `${number(events.gaps)} gaps` : null, events.errors > 0 ? `${number(events.errors)} errors` : null]
    .filter((part) => part !== null);
  return cell([pill(text, kind), el('div', { class: 'small' }, [`${number(events.received)} batches`, ...trouble].join(', '))]);
}

function engineRows(engine) {
  const kinds = { healthy: 'good', unhealthy: 'bad' };
  const open = openEngines.has(engine.name);
  const rows = [el('tr', { class: 'row' },
    cell([el('button', { class: 'link', 'data-key': `engine ${engine.name}`, 'aria-expanded': open, onclick: () => { toggle(openEngines, engine.name); draw(); } }, engine.name),
          el('div', { class: 'small' }, engine.url)]),
    cell([pill(engine.state, kinds[engine.state] ?? ''), engine.reason ? el('div', { class: 'small' }, engine.reason) : null], engine.reason ? 'wrap' : ''),
    cell(engine.models.map((model) => el('div', {}, model.id))),
    cell([number(engine.blocks), engine.capacity_blocks ? el('span', { class: 'small' }, ` of ${number(engine.capacity_blocks)}`) : null,
          engine.capacity_blocks ? meter(engine.blocks / engine.capacity_blocks) : null]),
    cell(engine.block_size || '–', 'n'),
    eventsCell(engine.events),
    cell([`${(100 * engine.load.kv_usage).toFixed(0)} %`, meter(engine.load.kv_usage, 'cool')]),
    cell(`${number(engine.load.running)} / ${number(engine.load.waiting)}`, 'n'),
    cell(number(engine.inflight.requests), 'n'),
    cell(percent(engine.prediction.exact, engine.prediction.requests), 'n'),
    cell(percent(engine.token_parity.equal, engine.token_parity.checked), 'n'))];
  if (engine.notes.length > 0) {
    rows.push(el('tr', { class: 'notes' },
      el('td', { colspan: 11 }, engine.notes.map((note) => el('span', { class: 'note' }, note.text)))));
  }
  if (open) rows.push(el('tr', { class: 'detail' }, el('td', { colspan: 11 }, engineCard(engine))));
  return rows;
}

async function openRequest(id) {
  if (openRequests.delete(id)) return draw();
  openRequests.set(id, null);
  draw();
  try {
    const record = await get(`/api/v1/requests/${encodeURIComponent(id)}`);
    if (openRequests.has(id)) openRequests.set(id, record);
  } catch {
    openRequests.delete(id);
  }
  draw();
}

function scoreTable(record) {
  if (record === null) return el('span', { class: 'quiet' }, 'loading');
  const plugins = Object.keys(record.weights);
  const score = (value) => (typeof value === 'number' ? value.toFixed(3) : '–');
  const heads = ['Engine', 'Matched blocks', 'Cached', 'Expected', ...plugins.map((name) => `${name} ×${record.weights[name]}`), 'Total', 'Filtered by'];
  return el('table', {},
    el('thead', {}, el('tr', {}, heads.map((head, i) => el('th', { scope: 'col', class: i > 0 && i < heads.length - 1 ? 'n' : null }, head)))),
    el('tbody', {}, record.endpoints.map((endpoint) =>
      el('tr', { class: endpoint.name === record.chosen ? 'chosen' : endpoint.filtered_by ? 'filtered' : '' },
        cell(endpoint.name === record.chosen ? `${endpoint.name} (chosen)` : endpoint.name),
        cell(number(endpoint.matched_blocks), 'n'), cell(number(endpoint.cached_tokens), 'n'), cell(number(endpoint.expected_cached_tokens), 'n'),
        plugins.map((name) => cell(score(endpoint.scores[name]), 'n')), cell(score(endpoint.total), 'n'), cell(endpoint.filtered_by ?? '–')))));
}

function requestRows(request) {
  const failed = request.aborted || (request.status !== null && request.status >= 400);
  const status = request.aborted ? 'aborted' : request.status === null ? 'running' : String(request.status);
  const off = request.delivered_cached_tokens !== null && request.delivered_cached_tokens !== request.predicted_cached_tokens;
  const open = openRequests.has(request.request_id);
  const rows = [el('tr', { class: 'row' },
    cell(new Date(request.at * 1000).toLocaleTimeString('en-GB')),
    cell(el('button', { class: 'link', 'data-key': `request ${request.request_id}`, 'aria-expanded': open, title: request.request_id, onclick: () => openRequest(request.request_id) }, request.request_id), 'id'),
    cell(request.chosen ?? '–'),
    cell(request.why, 'wrap'),
    cell(number(request.prompt_tokens), 'n'), cell(number(request.predicted_cached_tokens), 'n'),
    cell(off ? pill(number(request.delivered_cached_tokens), 'caution') : number(request.delivered_cached_tokens), 'n'),
    cell(duration(request.first_byte_ms), 'n'), cell(duration(request.total_ms), 'n'),
    cell(pill(status, failed ? 'bad' : request.status === null ? '' : 'good'), 'n'))];
  if (open) rows.push(el('tr', { class: 'detail' }, el('td', { colspan: 10 }, scoreTable(openRequests.get(request.request_id)))));
  return rows;
}

let shown = null; // the last answers

function draw() {
  if (shown === null) return;
  const focused = document.activeElement?.dataset.key;
  const empty = (columns, text) => el('tr', {}, el('td', { colspan: columns, class: 'empty' }, text));
  const engines = shown.endpoints.flatMap(engineRows);
  place('fleet').replaceChildren(...(engines.length > 0 ? engines : [empty(11, 'No engines configured.')]));
  const requests = shown.requests.slice(0, SHOWN).flatMap(requestRows);
  place('requests').replaceChildren(...(requests.length > 0 ? requests : [empty(10, 'No request routed yet.')]));
  // The rows are new ones: keep the keyboard where it was.
  if (focused !== undefined) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

async function poll() {
  if (!document.hidden) {
    try {
      const [status, endpoints, index, requests] = await Promise.all(
        ['/api/v1/status', '/api/v1/endpoints', '/api/v1/index', `/api/v1/requests?count=${LISTED}`].map(get));
      shown = { endpoints: endpoints.endpoints, requests: requests.requests };
      const rates = hitRates(shown.requests);
      history.push(rates);
      if (history.length > SPAN) history.shift();
      showHeader(status);
      showTiles(status, index, rates);
      place('chart').replaceChildren(chart(history, SPAN));
      draw();
      place('offline').hidden = true;
    } catch {
      place('offline').hidden = false;
    }
  }
  setTimeout(poll, PERIOD_MS);
}

poll();

/** Operations of the outbox: recovery, schedule, checksum. */

import { Held, judgeRecorded } from './.build/held.js';
import { crc32, idOf, readFrame, readLetter, recoverFiles } from './.build/outbox.js';
import { readRegionStatus } from './.build/regionStatus.js';
import { positionOf, watermarkOf } from './.build/response.js';
import { judge, Schedule } from './.build/schedule.js';
import { bytes, double, hex } from './signing.mjs';

const present = (members) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

function recovered({ files }) {
  const data = (name) => bytes(files[name]);
  const found = recoverFiles(Object.keys(files), data);
  const entries = [...found.entries.values()].map(({ file, offset, hold: at }) => {
    const letter = readLetter(readFrame(data(file), offset).value);
    const { id, pcsId: pcs_id, key, kid, tenant, from, atMs, body } = letter;
    const hold = textOf(at);
    return present({ id, pcs_id, key, kid, tenant, from, at: `${atMs}`, body: hex(body), hold });
  });
  return {
    entries: entries.sort((a, b) => (a.id < b.id ? -1 : 1)),
    dead: [...found.dead.keys()].sort(),
    corrupt: [...found.corrupt].sort(),
    cuts: [...found.cuts].sort().map((name) => [name, `${found.sizes.get(name)}`]),
    unreadable: `${found.unreadable}`,
    next_id: idOf(found.nextId),
  };
}

const textOf = (at) => at && `${at.region}/${at.placement}/${at.regionEpoch}/${at.seq}`;

const NOTHING = { released: [], again: [] };

function verdictOf(event, wanted) {
  const { status, retry_after_ms: told, cancelled, level = 'durable' } = event;
  if (status === '200' || status === '202') {
    const [position, replicated] = [event.position, event.replicated].map(positionOf);
    return judgeRecorded({ raw: { status: Number(status) }, level, position, replicated }, wanted);
  }
  const code = cancelled === 'true' ? 'cancelled' : 'any';
  const retryAfterMs = told === undefined ? undefined : Number(told);
  return judge(status && Number(status), code, '', new Uint8Array(), retryAfterMs);
}

/** Play histories on a schedule and what is held beside it, as the outbox does. */
class History {
  #schedule;
  #level;
  #held = new Held();
  #entries = new Map();
  #heard = NOTHING;

  constructor({ width_max, durability }) {
    this.#schedule = new Schedule(Number(width_max));
    this.#level = durability;
  }

  step(event) {
    this.#heard = NOTHING;
    const found = this.#play(event);
    const blocked = this.#schedule.blocked.map(({ group, name }) => [group, name]).sort();
    const step = { ...found, in_flight: `${this.#schedule.inFlight}`, blocked };
    if (this.#level === undefined) return step;
    const held = [...this.#held.positions].map(([id, at]) => [id, textOf(at)]).sort();
    const { released, again } = this.#heard;
    return { ...step, held, released: released.toSorted(), again: again.toSorted() };
  }

  #play(event) {
    switch (event.event) {
      case 'put':
        this.#put(event);
        return {};
      case 'take': {
        const [nowMs, limit, bytesMax] = [event.now_ms, event.limit, event.bytes_max].map(Number);
        return { taken: this.#schedule.take(nowMs, limit, bytesMax).map((entry) => entry.id) };
      }
      case 'answer':
        this.#hear(watermarkOf([['PCS-Replicated', event.replicated]]));
        return { verdict: this.#settle(event) };
      case 'heard':
        this.#hear(watermarkOf([['PCS-Replicated', event.value]]));
        return {};
      case 'status':
        this.#hear(readRegionStatus(bytes(event.body)));
        return {};
      default:
        this.#schedule.hurry();
        return {};
    }
  }

  #put({ id, kid, tenant, length, in_flight, hold }) {
    const entry = { id, kid, tenant, key: '', atMs: 0, file: '', offset: 0 };
    this.#entries.set(id, { ...entry, length: Number(length) });
    const at = positionOf(hold);
    if (at) this.#held.positions.set(id, at);
    else this.#schedule.add(this.#entries.get(id), in_flight === 'true');
  }

  #hear(news) {
    if (!news) return;
    this.#heard = this.#held.hear(news);
    for (const id of this.#heard.again) this.#schedule.add(this.#entries.get(id), false);
  }

  #verdict(event) {
    const verdict = verdictOf(event, this.#level ?? 'durable');
    if (verdict.what !== 'hold') return verdict;
    const fate = this.#held.fate(verdict.position);
    if (fate === 'open') this.#held.positions.set(event.id, verdict.position);
    if (fate === 'passed') return { what: 'later', endpointDown: false };
    return fate === 'covered' ? { what: 'acknowledge' } : verdict;
  }

  /** Carry out on the schedule what the end of a delivery means. */
  #settle(event) {
    const { id, now_ms, u } = event;
    const verdict = this.#verdict(event);
    if (verdict.what === 'pause') this.#schedule.pause(id, verdict.group);
    else if (verdict.what === 'later') {
      this.#schedule.postpone(id, verdict, Number(now_ms), double(u));
    } else {
      this.#schedule.drop(id);
      this.#schedule.delivered();
      if (verdict.what !== 'bury') this.#schedule.resume(this.#entries.get(id));
    }
    return verdict.what;
  }
}

function stepped(args) {
  const history = new History(args);
  return { steps: args.events.map((event) => history.step(event)) };
}

export const OPS = {
  'outbox.recover': recovered,
  'outbox.step': stepped,
  'checksum.crc32': (args) => ({ value: crc32(bytes(args.bytes)).toString(16).padStart(8, '0') }),
};

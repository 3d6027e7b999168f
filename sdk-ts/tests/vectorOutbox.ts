/** Entries for the vectors of the outbox (spec/formats.md 13.5, 13.12, 13.15). */

import { type Heard, Held, judgeRecorded } from '../src/held.js';
import { type Entry, idOf, readFrame, readLetter, recoverFiles } from '../src/outbox.js';
import type { Level, Position } from '../src/outcome.js';
import { type RegionStatus, readRegionStatus } from '../src/regionStatus.js';
import { positionOf, watermarkOf } from '../src/response.js';
import { judge, type Schedule, type Verdict } from '../src/schedule.js';
import type { Answer, Args } from './vectorFiles.js';

function present(members: Answer): Answer {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** Answer `outbox.recover`. */
export function recoverAnswer({ files }: Args): Answer {
  const data = (name: string): Uint8Array => Buffer.from(files[name], 'hex');
  const found = recoverFiles(Object.keys(files), data);
  const entries = [...found.entries.values()].map(({ file, offset, hold: at }) => {
    const letter = readLetter(readFrame(data(file), offset)?.value);
    if (!letter) throw new Error('an entry is not where it lies');
    const { id, pcsId: pcs_id, key, kid, tenant, from, atMs } = letter;
    const body = Buffer.from(letter.body).toString('hex');
    return present({ id, pcs_id, key, kid, tenant, from, at: `${atMs}`, body, hold: textOf(at) });
  });
  return {
    entries: entries.sort((a, b) => (`${a.id}` < `${b.id}` ? -1 : 1)),
    dead: [...found.dead.keys()].sort(),
    corrupt: [...found.corrupt].sort(),
    cuts: [...found.cuts].sort().map((name) => [name, `${found.sizes.get(name)}`]),
    unreadable: `${found.unreadable}`,
    next_id: idOf(found.nextId),
  };
}

function textOf(at: Position | undefined): string | undefined {
  return at && `${at.region}/${at.placement}/${at.regionEpoch}/${at.seq}`;
}

function verdictOf(event: Args, wanted: Level): Verdict {
  const { status, retry_after_ms: told, cancelled } = event;
  if (status === '200' || status === '202') {
    const [position, replicated] = [event.position, event.replicated].map(positionOf);
    const { level = 'durable' } = event;
    return judgeRecorded({ raw: { status: Number(status) }, level, position, replicated }, wanted);
  }
  const code = cancelled === 'true' ? 'cancelled' : 'any';
  const retryAfterMs = told === undefined ? undefined : Number(told);
  return judge(status && Number(status), code, '', new Uint8Array(), retryAfterMs);
}

function doubleOf(bits: string): number {
  return Buffer.from(bits, 'hex').readDoubleBE();
}

/** Play histories on a schedule and what is held beside it, as the outbox does. */
class History {
  readonly #schedule: Schedule;
  readonly #level: Level;
  readonly #held = new Held();
  readonly #entries = new Map<string, Entry>();
  #heard: Heard = NOTHING;

  constructor(schedule: Schedule, level: Level) {
    this.#schedule = schedule;
    this.#level = level;
  }

  /** Play one event, and say what there is behind it. */
  step(event: Args): Answer {
    this.#heard = NOTHING;
    const found = this.#play(event);
    const blocked = this.#schedule.blocked.map(({ group, name }) => [group, name]).sort();
    const step = { ...found, in_flight: `${this.#schedule.inFlight}`, blocked };
    if (this.#level === 'durable') return step;
    const held = [...this.#held.positions].map(([id, at]) => [id, textOf(at)]).sort();
    const { released, again } = this.#heard;
    return { ...step, held, released: [...released].sort(), again: [...again].sort() };
  }

  #play(event: Args): Answer {
    const { id } = event;
    switch (event.event) {
      case 'put':
        this.#put(event);
        return {};
      case 'take': {
        const limits = [Number(event.limit), Number(event.bytes_max)] as const;
        const taken = this.#schedule.take(Number(event.now_ms), ...limits);
        return { taken: taken.map((entry) => entry.id) };
      }
      case 'answer':
        this.#hear(watermarkOf([['PCS-Replicated', event.replicated]]));
        return { verdict: this.#settle(this.#entries.get(id) as Entry, event) };
      case 'heard':
        this.#hear(watermarkOf([['PCS-Replicated', event.value]]));
        return {};
      case 'status':
        this.#hear(readRegionStatus(new Uint8Array(Buffer.from(event.body, 'hex'))));
        return {};
    }
    this.#schedule.hurry();
    return {};
  }

  #put({ id, kid, tenant, length, in_flight, hold }: Args): void {
    const place = { file: '', offset: 0, length: Number(length) };
    const entry: Entry = { id, kid, tenant, key: '', atMs: 0, ...place };
    this.#entries.set(id, entry);
    const at = positionOf(hold);
    if (at) this.#held.positions.set(id, at);
    else this.#schedule.add(entry, in_flight === 'true');
  }

  #hear(news: Position | RegionStatus | undefined): void {
    if (!news) return;
    this.#heard = this.#held.hear(news);
    for (const id of this.#heard.again) this.#schedule.add(this.#entries.get(id) as Entry, false);
  }

  #settle(entry: Entry, event: Args): string {
    const { id } = entry;
    let verdict = verdictOf(event, this.#level);
    if (verdict.what === 'hold') {
      const { position, status } = verdict;
      const fate = this.#held.fate(position);
      if (fate === 'open') this.#held.positions.set(id, position);
      if (fate === 'passed') verdict = { what: 'later', endpointDown: false };
      if (fate === 'covered') verdict = { what: 'acknowledge', status };
    }
    if (verdict.what === 'pause') this.#schedule.pause(id, verdict.group);
    else if (verdict.what === 'later') {
      this.#schedule.postpone(id, verdict, Number(event.now_ms), doubleOf(event.u));
    } else {
      this.#schedule.drop(id);
      this.#schedule.delivered();
      if (verdict.what !== 'bury') this.#schedule.resume(entry);
    }
    return verdict.what;
  }
}

const NOTHING: Heard = { released: [], again: [], moved: [] };

/** Answer `outbox.step` with a schedule. */
export function stepAnswer(
  schedule: Schedule,
  events: readonly Args[],
  level: Level = 'durable',
): Answer {
  const history = new History(schedule, level);
  return { steps: events.map((event) => history.step(event)) };
}

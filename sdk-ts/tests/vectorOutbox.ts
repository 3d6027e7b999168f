/** Entries for the vectors of the outbox (spec/formats.md 13.5, 13.12). */

import { type Entry, idOf, readFrame, readLetter, recoverFiles } from '../src/outbox.js';
import { judge, type Schedule, type Verdict } from '../src/schedule.js';
import type { Answer, Args } from './vectorFiles.js';

function present(members: Answer): Answer {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** Answer `outbox.recover`. */
export function recoverAnswer({ files }: Args): Answer {
  const data = (name: string): Uint8Array => Buffer.from(files[name], 'hex');
  const found = recoverFiles(Object.keys(files), data);
  const entries = [...found.entries.values()].map(({ file, offset }) => {
    const letter = readLetter(readFrame(data(file), offset)?.value);
    if (!letter) throw new Error('an entry is not where it lies');
    const { id, pcsId: pcs_id, key, kid, tenant, from, atMs } = letter;
    const body = Buffer.from(letter.body).toString('hex');
    return present({ id, pcs_id, key, kid, tenant, from, at: `${atMs}`, body });
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

function verdictOf({ status, retry_after_ms: told, cancelled }: Args): Verdict {
  if (status === '200' || status === '202') return { what: 'acknowledge', status: Number(status) };
  const code = cancelled === 'true' ? 'cancelled' : 'any';
  const retryAfterMs = told === undefined ? undefined : Number(told);
  return judge(status && Number(status), code, '', new Uint8Array(), retryAfterMs);
}

function doubleOf(bits: string): number {
  return Buffer.from(bits, 'hex').readDoubleBE();
}

/** Carry out on the schedule what the end of a delivery means, as the outbox does. */
function settle(schedule: Schedule, entry: Entry, verdict: Verdict, event: Args): void {
  const { id } = entry;
  if (verdict.what === 'pause') schedule.pause(id, verdict.group);
  else if (verdict.what === 'later') {
    schedule.postpone(id, verdict, Number(event.now_ms), doubleOf(event.u));
  } else {
    schedule.drop(id);
    schedule.delivered();
    if (verdict.what === 'acknowledge') schedule.resume(entry);
  }
}

/** Answer `outbox.step` with a schedule. */
export function stepAnswer(schedule: Schedule, events: readonly Args[]): Answer {
  const entries = new Map<string, Entry>();
  const play = (event: Args): Answer => {
    const { id, kid, tenant } = event;
    if (event.event === 'put') {
      const place = { file: '', offset: 0, length: Number(event.length) };
      const entry: Entry = { id, kid, tenant, key: '', atMs: 0, ...place };
      entries.set(id, entry);
      schedule.add(entry, event.in_flight === 'true');
    } else if (event.event === 'take') {
      const limits = [Number(event.limit), Number(event.bytes_max)] as const;
      return { taken: schedule.take(Number(event.now_ms), ...limits).map((entry) => entry.id) };
    } else if (event.event === 'answer') {
      const verdict = verdictOf(event);
      settle(schedule, entries.get(id) as Entry, verdict, event);
      return { verdict: verdict.what };
    } else schedule.hurry();
    return {};
  };
  const steps = events.map((event) => {
    const step = play(event);
    const blocked = schedule.blocked.map(({ group, name }) => [group, name]).sort();
    return { ...step, in_flight: `${schedule.inFlight}`, blocked };
  });
  return { steps };
}

/** Operations of the outbox: recovery, schedule, checksum. */

import { crc32, idOf, readFrame, readLetter, recoverFiles } from './.build/outbox.js';
import { judge, Schedule } from './.build/schedule.js';
import { bytes, double, hex } from './signing.mjs';

const present = (members) =>
  Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

function recovered({ files }) {
  const data = (name) => bytes(files[name]);
  const found = recoverFiles(Object.keys(files), data);
  const entries = [...found.entries.values()].map(({ file, offset }) => {
    const letter = readLetter(readFrame(data(file), offset).value);
    const { id, pcsId: pcs_id, key, kid, tenant, from, atMs, body } = letter;
    return present({ id, pcs_id, key, kid, tenant, from, at: `${atMs}`, body: hex(body) });
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

function verdictOf({ status, retry_after_ms: told, cancelled }) {
  if (status === '200' || status === '202') return { what: 'acknowledge' };
  const code = cancelled === 'true' ? 'cancelled' : 'any';
  const retryAfterMs = told === undefined ? undefined : Number(told);
  return judge(status && Number(status), code, '', new Uint8Array(), retryAfterMs);
}

/** Carry out on the schedule what the end of a delivery means, as the outbox does. */
function settle(schedule, entry, verdict, { now_ms, u }) {
  const { id } = entry;
  if (verdict.what === 'pause') schedule.pause(id, verdict.group);
  else if (verdict.what === 'later') schedule.postpone(id, verdict, Number(now_ms), double(u));
  else {
    schedule.drop(id);
    schedule.delivered();
    if (verdict.what === 'acknowledge') schedule.resume(entry);
  }
}

function stepOf(schedule, entries, event) {
  const { id, kid, tenant } = event;
  switch (event.event) {
    case 'put': {
      const entry = { id, kid, tenant, key: '', atMs: 0, file: '', offset: 0 };
      entries.set(id, { ...entry, length: Number(event.length) });
      schedule.add(entries.get(id), event.in_flight === 'true');
      return {};
    }
    case 'take': {
      const [nowMs, limit, bytesMax] = [event.now_ms, event.limit, event.bytes_max].map(Number);
      return { taken: schedule.take(nowMs, limit, bytesMax).map((entry) => entry.id) };
    }
    case 'answer': {
      const verdict = verdictOf(event);
      settle(schedule, entries.get(id), verdict, event);
      return { verdict: verdict.what };
    }
    default:
      schedule.hurry();
      return {};
  }
}

function stepped({ width_max, events }) {
  const schedule = new Schedule(Number(width_max));
  const entries = new Map();
  const steps = events.map((event) => {
    const step = stepOf(schedule, entries, event);
    const blocked = schedule.blocked.map(({ group, name }) => [group, name]).sort();
    return { ...step, in_flight: `${schedule.inFlight}`, blocked };
  });
  return { steps };
}

export const OPS = {
  'outbox.recover': recovered,
  'outbox.step': stepped,
  'checksum.crc32': (args) => ({ value: crc32(bytes(args.bytes)).toString(16).padStart(8, '0') }),
};

/**
 * Let one signal end many calls.
 *
 * A call does not listen to the signal of its caller: a runtime takes more than a few listeners
 * for a leak and warns. Each signal gets one listener of this file, for as long as it lives.
 */

const followers = /* @__PURE__ */ new WeakMap<AbortSignal, Set<AbortController>>();

/** Abort a controller as soon as a signal does; give a function that lets the signal go. */
export function follow(stop: AbortController, signal?: AbortSignal): () => unknown {
  if (!signal) return () => {};
  if (signal.aborted) stop.abort();
  let group = followers.get(signal);
  if (!group) {
    const all = new Set<AbortController>();
    signal.addEventListener('abort', () => {
      for (const each of all) each.abort();
    });
    followers.set(signal, all);
    group = all;
  }
  const joined = group.add(stop);
  return () => joined.delete(stop);
}

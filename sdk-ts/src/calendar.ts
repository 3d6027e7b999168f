/** Read calendar times: days that exist, hours to 23, minutes and seconds to 59. */

/** Read `YYYY-MM-DDTHH:MM:SS` as Unix milliseconds; NaN for a time that does not exist. */
export function calendarMs(text: string): number {
  const ms = Date.parse(`${text}Z`);
  // A parser may carry 30 February over into March, and 24:00 into the next day.
  const isReal = !Number.isNaN(ms) && text >= '0001' && new Date(ms).toISOString().startsWith(text);
  return isReal ? ms : Number.NaN;
}

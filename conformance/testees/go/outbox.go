package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	fractal "fractal-lba.example/sdk-go"
)

func init() {
	operations["outbox.recover"] = outboxRecover
	operations["outbox.step"] = outboxStep
	operations["checksum.crc32"] = func(args members) (members, error) {
		return members{"value": fmt.Sprintf("%08x", crc32.ChecksumIEEE(args.bytes("bytes")))}, nil
	}
}

func outboxRecover(args members) (members, error) {
	given := args.under("files")
	files := map[string][]byte{}
	for name := range given {
		files[name] = given.bytes(name)
	}
	found := fractal.RecoverFiles(files)
	entries, cuts := []members{}, [][2]string{}
	for _, letter := range found.Entries {
		entries = append(entries, letterAnswer(letter))
	}
	for _, name := range slices.Sorted(maps.Keys(found.Cuts)) {
		cuts = append(cuts, [2]string{name, decimal(found.Cuts[name])})
	}
	return members{
		"entries": entries, "dead": orEmpty(found.Dead), "corrupt": orEmpty(found.Corrupt),
		"cuts": cuts, "unreadable": decimal(found.Unreadable), "next_id": found.NextID,
	}, nil
}

func letterAnswer(letter fractal.Letter) members {
	answer := members{
		"id": letter.ID, "pcs_id": letter.PcsID, "key": letter.Key, "at": decimal(letter.AtMs),
		"body": hex.EncodeToString(letter.Body),
	}
	for name, text := range map[string]string{
		"kid": letter.Kid, "tenant": letter.Tenant, "from": letter.From,
	} {
		if text != "" {
			answer[name] = text
		}
	}
	return answer
}

func orEmpty(texts []string) []string { return append([]string{}, texts...) }

func outboxStep(args members) (members, error) {
	schedule := fractal.NewOutboxSchedule(int(args.number("width_max")))
	steps := []members{}
	for _, event := range args.list("events") {
		step := outboxEvent(schedule, event)
		blocked := [][2]string{}
		for _, group := range schedule.Blocked() {
			blocked = append(blocked, [2]string{group.What, group.Name})
		}
		slices.SortFunc(blocked, func(a, b [2]string) int {
			return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
		})
		step["in_flight"], step["blocked"] = decimal(schedule.InFlight()), blocked
		steps = append(steps, step)
	}
	return members{"steps": steps}, nil
}

func outboxEvent(schedule *fractal.OutboxSchedule, event members) members {
	id := event.text("id")
	switch event.text("event") {
	case "put":
		kid, tenant := event.text("kid"), event.text("tenant")
		schedule.Put(id, kid, tenant, int(event.number("length")), event.flag("in_flight"))
	case "take":
		limit, bytesMax := int(event.number("limit")), int(event.number("bytes_max"))
		return members{"taken": orEmpty(schedule.Take(event.number("now_ms"), limit, bytesMax))}
	case "answer":
		verdict := verdictOf(event)
		schedule.Settle(id, verdict, event.number("now_ms"), event.double("u"))
		return members{"verdict": string(verdict.Kind)}
	case "hurry":
		schedule.Hurry()
	}
	return members{}
}

func verdictOf(event members) fractal.Verdict {
	status, retryAfterMs, code := 0, int64(0), "any"
	if event.has("status") {
		status = int(event.number("status"))
	}
	if event.has("retry_after_ms") {
		retryAfterMs = event.number("retry_after_ms")
	}
	if event.flag("cancelled") {
		code = "cancelled"
	}
	if status == 200 || status == 202 {
		return fractal.Verdict{Kind: fractal.Acknowledge, Status: status}
	}
	return fractal.JudgeDelivery(status, code, "", nil, retryAfterMs)
}

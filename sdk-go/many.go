package fractal

// This file answers many records beside each other, in the order of the input, reading it lazily.

import (
	"context"
	"iter"
	"sync"
)

const (
	// submitWindow is how many times the concurrency the input is read ahead of the answers.
	submitWindow = 2

	// maxQueuedRecords is how many records wait for a worker, however wide a caller wants it.
	maxQueuedRecords = 1_024
)

// Item is one answer of SubmitMany: the place of the record, and a result or an error.
type Item struct {
	Index  int
	Result *Submitted // nil if Err says why there is none
	Err    error
}

// SubmitMany submits records beside each other, WithConcurrency at a time, and gives their answers
// in the order of the input. A record that fails is an Item with an error and spoils no other;
// when ctx ends, the rest is marked cancelled.
func (c *Client) SubmitMany(ctx context.Context, records []Record, options ...CallOption) []Item {
	items := make([]Item, 0, len(records))
	for item := range c.SubmitSeq(ctx, submittables(records), options...) {
		items = append(items, item)
	}
	return items
}

func submittables(records []Record) iter.Seq[Submittable] {
	return func(yield func(Submittable) bool) {
		for _, record := range records {
			if !yield(record) {
				return
			}
		}
	}
}

// SubmitSeq is SubmitMany for records of any kind and of any number: the input is read lazily, at
// most twice the concurrency ahead of the answers. Leaving the loop ends what is in flight. Wrong
// options are the error of every item.
func (c *Client) SubmitSeq(
	ctx context.Context, records iter.Seq[Submittable], options ...CallOption,
) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		call, err := c.settings.callWith(options)
		if err != nil {
			call.concurrency = 1
		}
		ctx, abandon := context.WithCancel(orBackground(ctx))
		defer abandon()
		each := func(index int, record Submittable) Item {
			if err != nil {
				return Item{Index: index, Err: err}
			}
			result, err := c.submit(ctx, record, call)
			return Item{Index: index, Result: result, Err: err}
		}
		line := newLine(call.concurrency, each)
		defer line.end(abandon)
		index := 0
		for record := range records {
			line.add(index, record)
			index++
			for line.isReady() {
				if !yield(line.take()) {
					return
				}
			}
		}
		for len(line.pending) > 0 {
			if !yield(line.take()) {
				return
			}
		}
	}
}

func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// line is what waits for an answer, in order, and the workers that give one.
type line struct {
	width   int
	work    func(index int, record Submittable) Item
	jobs    chan job
	started int
	workers sync.WaitGroup
	pending []chan Item
}

type job struct {
	index  int
	record Submittable
	answer chan<- Item
}

func newLine(width int, work func(int, Submittable) Item) *line {
	return &line{width: width, work: work, jobs: make(chan job, min(width, maxQueuedRecords))}
}

// add takes one record; workers take them up in order.
func (l *line) add(index int, record Submittable) {
	if l.started < l.width {
		l.started++
		l.workers.Go(func() {
			for next := range l.jobs {
				next.answer <- l.work(next.index, next.record)
			}
		})
	}
	answer := make(chan Item, 1)
	l.pending = append(l.pending, answer)
	l.jobs <- job{index, record, answer}
}

// isReady says whether the first answer is there, or the window is full.
func (l *line) isReady() bool {
	return len(l.pending) > 0 && (len(l.pending[0]) > 0 || len(l.pending)/submitWindow >= l.width)
}

// take waits for the first answer.
func (l *line) take() Item {
	first := l.pending[0]
	l.pending = l.pending[1:]
	return <-first
}

// end gives up what has no answer yet, and waits for the workers.
func (l *line) end(abandon func()) {
	abandon()
	close(l.jobs)
	l.workers.Wait()
}

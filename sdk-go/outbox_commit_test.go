package fractal

// Group commit: one sync serves all who wait for it, and one that fails is told to all.

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// gate holds the syncs of the log open; each that comes says so.
type gate struct {
	syncing chan struct{}
	open    chan struct{}
}

func gatedBox(t *testing.T) (*Outbox, *faultFiles, *gate) {
	t.Helper()
	files := newFaultFiles(0, "")
	box := mustOpen(t, files, 0)
	held := &gate{make(chan struct{}, 100), make(chan struct{})}
	files.before = func(call, _ string) {
		if call == "fsync" {
			held.syncing <- struct{}{}
			<-held.open
		}
	}
	return box, files, held
}

// putBeside puts letters from goroutines of their own, and waits until all are appended.
func putBeside(box *Outbox, files *faultFiles, from, to int, done chan<- error) {
	for number := from; number <= to; number++ {
		go func() {
			_, err := box.put(letterNo(number), outboxNowMs, false)
			done <- err
		}()
	}
	appended := func() int {
		files.lock.Lock()
		defer files.lock.Unlock()
		count := 0
		for _, line := range files.log {
			if strings.Contains(line, "pwrite") {
				count++
			}
		}
		return count
	}
	for appended() < to+1 { // the lock is one
		runtime.Gosched()
	}
}

func TestOneSyncServesAllWhoWaitForIt(t *testing.T) {
	box, files, held := gatedBox(t)
	done := make(chan error, 100)
	putBeside(box, files, 1, 1, done)
	<-held.syncing
	putBeside(box, files, 2, 4, done) // as many as fit into the file
	if len(done) > 0 {
		t.Error("a put returned before a sync")
	}
	close(held.open)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if more := len(held.syncing); more != 1 {
		t.Errorf("%d syncs for those who waited", more)
	}
	taken := takeAll(t, box, outboxNowMs)
	if slices.Sort(taken); !slices.Equal(taken, []int{1, 2, 3, 4}) {
		t.Errorf("%v", taken)
	}
}

func TestAllWhoWaitForASyncThatFailsAreTold(t *testing.T) {
	box, files, held := gatedBox(t)
	done := make(chan error, 100)
	putBeside(box, files, 1, 1, done)
	<-held.syncing
	putBeside(box, files, 2, 4, done)
	files.lock.Lock()
	files.at, files.how = files.calls+1, "fail"
	files.lock.Unlock()
	close(held.open)
	for range 4 {
		expectCode(t, <-done, "outbox_corrupt")
	}
	_, err := box.take(outboxNowMs, 1, 1)
	expectCode(t, err, "outbox_corrupt")
	mustClose(t, box)
}

func TestGoroutinesThatPutAndSettleAcrossRotationsLoseNothing(t *testing.T) {
	box, path := newBox(t, withFileBytes(1000))
	var all sync.WaitGroup
	failures := make(chan error, 1000)
	for start := 1000; start <= 6000; start += 1000 {
		all.Go(func() {
			for number := start; number < start+40; number++ {
				kept, err := box.put(letterNo(number), outboxNowMs, true)
				if err == nil && number%4 != 0 {
					err = box.settle(kept.ID, acknowledged(), outboxNowMs, 0)
				}
				if err != nil {
					failures <- fmt.Errorf("letter %d: %w", number, err)
				}
			}
		})
	}
	all.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	var want []int
	for start := 1000; start <= 6000; start += 1000 {
		for number := start; number < start+40; number += 4 {
			want = append(want, number)
		}
	}
	taken := takeAll(t, reopen(t, box, path), outboxNowMs)
	if slices.Sort(taken); !slices.Equal(taken, want) {
		t.Errorf("%v", taken)
	}
}

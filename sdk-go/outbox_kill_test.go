package fractal

// A real process, killed at random moments, on a real file system.

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const kills = 12

// outboxChild is what a child process does: hold the outbox open, or keep letters for ever and
// print what was acknowledged to it.
func outboxChild(what string) int {
	path, _ := os.LookupEnv(childEnv + "_PATH")
	start, _ := strconv.Atoi(os.Getenv(childEnv + "_START"))
	settings, _ := outboxSettingsOf(nil)
	settings.fileBytes = 20_000
	files, err := newDiskDirectory(path)
	if err != nil {
		return 1
	}
	here, err := thisProcess()
	if err != nil {
		return 2
	}
	box, err := openOutbox(files, &locker{files, here, ticksOf}, settings)
	if err != nil {
		return 2
	}
	fmt.Println("open")
	if what == "hold" {
		select {}
	}
	for number := start; ; number++ {
		kept, err := box.put(killLetter(number), outboxNowMs, true)
		if err != nil {
			return 3
		}
		fmt.Println("kept", number)
		if number%3 == 0 {
			fmt.Println("acknowledging", number)
			_ = box.settle(kept.ID, Verdict{Kind: Acknowledge, Status: 200}, outboxNowMs, 0.5)
		} else if number%17 == 0 {
			_ = box.settle(kept.ID, conflict, outboxNowMs, 0.5)
		}
	}
}

func killLetter(number int) Letter {
	letter := letterNo(number)
	letter.Body = []byte(fmt.Sprintf(`{"n":%d}`, number) + strings.Repeat(" ", number%97))
	return letter
}

type childProcess struct {
	*exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, what, path, start string) *childProcess {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(),
		childEnv+"="+what, childEnv+"_PATH="+path, childEnv+"_START="+start)
	output, err := child.StdoutPipe()
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill() })
	return &childProcess{child, bufio.NewScanner(output)}
}

func (c *childProcess) expect(t *testing.T, line string) {
	t.Helper()
	if !c.lines.Scan() || c.lines.Text() != line {
		t.Fatalf("the child said %q", c.lines.Text())
	}
}

// kill ends the child and waits for its output to end, not for the child.
func (c *childProcess) kill(t *testing.T) (rest []string) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for c.lines.Scan() {
		rest = append(rest, c.lines.Text())
	}
	return rest
}

func mustOpenDisk(t *testing.T, path string, options ...OutboxOption) *Outbox {
	t.Helper()
	box, err := OpenOutbox(path, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, box) })
	return box
}

func TestAKilledProcessLosesNothingItWasToldIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox")
	random := rand.New(rand.NewPCG(2026, 1))
	kept, acknowledged := map[int]bool{}, map[int]bool{}
	note := func(line string) {
		word, text, _ := strings.Cut(line, " ")
		number, err := strconv.Atoi(text)
		switch {
		case err == nil && word == "kept":
			kept[number] = true
		case err == nil && word == "acknowledging":
			acknowledged[number] = true
		}
	}
	for kill := range kills {
		child := startChild(t, "keep", path, strconv.Itoa(1+kill*1_000_000))
		for range 1 + random.IntN(250) {
			child.lines.Scan()
			note(child.lines.Text())
		}
		rest := child.kill(t)
		_ = child.Wait()
		for _, line := range rest { // a pipe takes a short line whole or not at all
			note(line)
		}
		box, err := OpenOutbox(path)
		if err != nil {
			t.Fatal(err)
		}
		live, dead := contents(t, box)
		for number, letter := range dead {
			live[number] = letter
		}
		for number := range kept {
			if _, is := live[number]; !is && !acknowledged[number] {
				t.Errorf("kill %d: letter %d was kept and is lost", kill, number)
			}
		}
		for number, letter := range live {
			if !bytes.Equal(letter.Body, killLetter(number).Body) {
				t.Errorf("kill %d: letter %d has other bytes: %q", kill, number, letter.Body)
			}
		}
		if stats := box.Stats(); len(stats.CorruptFiles) > 0 {
			t.Errorf("kill %d: %+v", kill, stats)
		}
		mustClose(t, box)
	}
	if len(kept) < kills {
		t.Errorf("only %d were kept", len(kept))
	}
	t.Logf("%d kills, %d kept, %d acknowledged, 0 lost; at 95 %%: below %.2f per kill, %.5f per record",
		kills, len(kept), len(acknowledged), 3.0/kills, 3.0/float64(len(kept)))
}

package command

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/caddy-oci/oci-registry/storage/transfer"
)

// display shows how far a command is: on a terminal in a line that changes, else
// in a line now and then.
type display struct {
	verb     string // what is done to blobs and manifests
	progress transfer.Progress
	problems int

	mu       sync.Mutex // held while something is written
	out      io.Writer
	terminal bool
	begun    time.Time
	quit     chan struct{}
	done     sync.WaitGroup
}

func newDisplay(out io.Writer, verb string) *display {
	d := &display{verb: verb, out: out, terminal: isTerminal(out), begun: time.Now(), quit: make(chan struct{})}
	every := 10 * time.Second
	if d.terminal {
		every = 200 * time.Millisecond
	}
	d.done.Go(func() { d.show(every) })
	return d
}

// isTerminal reports whether somebody may be looking at what is written.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0
}

func (d *display) show(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-d.quit:
			return
		case <-ticker.C:
			line := d.line(time.Since(d.begun))
			if !d.terminal {
				line += "\n"
			}
			d.print(line)
		}
	}
}

// line is how far it is after a time.
func (d *display) line(after time.Duration) string {
	p := &d.progress
	finished, all := p.Finished.Load(), p.Repositories.Load()
	rate := float64(p.Bytes.Load()) / max(after.Seconds(), 0.001)
	there := ""
	if n := p.Skipped.Load(); n > 0 {
		there = fmt.Sprintf("%d were there, ", n)
	}
	line := fmt.Sprintf("%d/%d repositories, %d %s, %s%s, %s/s",
		finished, all, p.Copied.Load(), d.verb, there, bytes10(p.Bytes.Load()), bytes10(int64(rate)))
	if !d.terminal {
		return line
	}
	const width = 20
	full := 0
	if all > 0 {
		full = int(finished * width / all)
	}
	return fmt.Sprintf("[%s%s] %s", strings.Repeat("=", full), strings.Repeat(" ", width-full), line)
}

func bytes10(n int64) string { return humanize.Bytes(uint64(max(n, 0))) }

// problem shows something that couldn't be done.
func (d *display) problem(p transfer.Problem) {
	d.problems++
	d.print(p.String() + "\n")
}

// print writes s in the place of the line that changes.
func (d *display) print(s string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.terminal {
		s = "\r\x1b[K" + s
	}
	_, _ = io.WriteString(d.out, s) // if nobody can read it, it's done all the same
}

// stop ends showing how far it is.
func (d *display) stop() {
	close(d.quit)
	d.done.Wait()
}

// end says how it ended.
func (d *display) end(err error) error {
	d.stop()
	p := &d.progress
	d.print(fmt.Sprintf("%s: %d of %d repositories, %d blobs and manifests written (%s), %d were there\n",
		outcome(err, d.problems), p.Finished.Load(), p.Repositories.Load(), p.Copied.Load(), bytes10(p.Bytes.Load()), p.Skipped.Load()))
	switch {
	case err != nil:
		return err
	case d.problems > 0:
		return fmt.Errorf("not all went well: the list above has %d", d.problems)
	}
	return nil
}

func outcome(err error, problems int) string {
	switch {
	case err != nil:
		return "stopped"
	case problems > 0:
		return "done, with problems"
	}
	return "done"
}

package tasks_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-oci/oci-registry/tasks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inBubble runs f on a clock of its own, beside other tests.
func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// memory is a Memory that can be told to fail.
type memory struct {
	mu               sync.Mutex
	data             map[string][]byte
	loadErr, saveErr error
	saves            int
	overlaps         int
	saving           bool
	saveTakes        time.Duration
	loading          chan struct{} // Load waits for it, unless nil
}

func (m *memory) Load(ctx context.Context, name string) ([]byte, error) {
	if m.loading != nil {
		select {
		case <-m.loading:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loadErr != nil {
		return nil, m.loadErr
	}
	data, ok := m.data[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return data, nil
}

func (m *memory) Save(ctx context.Context, name string, data []byte) error {
	m.begin()
	time.Sleep(m.saveTakes)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saving = false
	m.saves++
	if m.saveErr != nil {
		return m.saveErr
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.data == nil {
		m.data = make(map[string][]byte)
	}
	m.data[name] = data
	return nil
}

func (m *memory) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.saving {
		m.overlaps++
	}
	m.saving = true
}

// snapshot is what a process finds that comes after one that was killed now.
func (m *memory) snapshot() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &memory{data: maps.Clone(m.data)}
}

func (m *memory) countSaves() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.saves
}

// wallClock is a clock on the wall that can be turned.
type wallClock struct{ off atomic.Int64 }

func (c *wallClock) turn(d time.Duration) { c.off.Add(int64(d)) }
func (c *wallClock) now() time.Time       { return time.Now().Add(time.Duration(c.off.Load())) }

// logs is where a Runner logs to.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logs) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.buf.String(), s)
}

// runner returns a Runner that is stopped when the test ends.
func runner(t *testing.T, o tasks.Options) *tasks.Runner {
	t.Helper()
	if o.Memory == nil {
		o.Memory = new(memory)
	}
	r := tasks.New(o)
	t.Cleanup(func() { stop(t, r) })
	return r
}

// pass lets d pass, and what happens then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func stop(t *testing.T, r *tasks.Runner) {
	t.Helper()
	if err := r.Stop(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

func schedule(t *testing.T, r *tasks.Runner, task tasks.Task) {
	t.Helper()
	if err := r.Schedule(task); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func trigger(t *testing.T, r *tasks.Runner, name, params string) tasks.Report {
	t.Helper()
	report, err := r.Trigger(t.Context(), name, []byte(params))
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func status(t *testing.T, r *tasks.Runner, name string) tasks.Status {
	t.Helper()
	synctest.Wait()
	s, ok := r.Status(name)
	if !ok {
		t.Fatalf("task %s isn't known", name)
	}
	return s
}

// diary is a Run that notes its rounds.
type diary struct {
	start time.Time
	takes time.Duration
	fails error

	mu       sync.Mutex
	began    []time.Duration // since start
	cursors  []string        // as the rounds found them
	running  int
	overlaps int
}

func newDiary() *diary { return &diary{start: time.Now()} }

func (d *diary) run(ctx context.Context, r *tasks.Round) error {
	d.mu.Lock()
	d.began = append(d.began, time.Since(d.start))
	d.cursors = append(d.cursors, r.Cursor())
	if d.running++; d.running > 1 {
		d.overlaps++
	}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.running--
	}()
	if err := sleep(ctx, d.takes); err != nil {
		return err
	}
	return d.fails
}

// rounds returns when they began, by the clock of the bubble.
func (d *diary) rounds() []time.Duration {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.began)
}

// found returns the cursors at which they began.
func (d *diary) found() []string {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.cursors)
}

func (d *diary) task(name string, every time.Duration) tasks.Task {
	return tasks.Task{Name: name, Every: every, Jitter: -1, Run: d.run}
}

func (d *diary) want(t *testing.T, want ...time.Duration) {
	t.Helper()
	if got := d.rounds(); !slices.Equal(got, want) {
		t.Fatalf("rounds began at %v, want %v", got, want)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

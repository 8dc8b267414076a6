package tasks_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oci/oci-registry/tasks"
)

// waits calls Wait that often and returns how long it took.
func waits(t *testing.T, p *tasks.Pace, times, n int) time.Duration {
	t.Helper()
	begun := time.Now()
	for range times {
		if err := p.Wait(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	return time.Since(begun)
}

func TestPaceRate(t *testing.T) {
	for name, c := range map[string]struct {
		rate     float64
		times, n int
		want     time.Duration
	}{
		"one by one": {100, 1001, 1, 10 * time.Second},
		"in tens":    {100, 101, 10, 10 * time.Second},
		"bytes":      {64 << 20, 11, 64 << 20, 10 * time.Second},
		"slow":       {0.1, 2, 1, 10 * time.Second},
		"no limit":   {0, 1000, 1 << 30, 0},
		"negative":   {-1, 1000, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				got := waits(t, tasks.NewPace(c.rate, nil), c.times, c.n)
				if most := 50 * time.Millisecond; got > c.want || got < c.want-most {
					t.Fatalf("took %v, want %v less %v at most", got, c.want, most)
				}
			})
		})
	}
}

func TestPaceIsShared(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := tasks.NewPace(100, nil)
		begun := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 100 {
					_ = p.Wait(t.Context(), 1)
				}
			})
		}
		wg.Wait()
		if took := time.Since(begun); took > 10*time.Second || took < 9900*time.Millisecond {
			t.Fatalf("1000 units took %v, want 10 s", took)
		}
	})
}

// Time that nobody used is no reason for a burst.
func TestPaceAfterAPause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := tasks.NewPace(100, nil)
		waits(t, p, 1, 1)
		pass(hour)
		if got := waits(t, p, 101, 1); got < 950*time.Millisecond {
			t.Fatalf("100 units took %v, want a second", got)
		}
	})
}

func TestPaceGivesWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var busy atomic.Int64
		p := tasks.NewPace(0, func() int { return int(busy.Load()) })
		if got := waits(t, p, 100, 1); got != 0 {
			t.Fatalf("took %v on an idle registry", got)
		}
		busy.Store(1)
		if got := waits(t, p, 100, 1000); got != 2*time.Second { // and makes progress
			t.Fatalf("100 took %v on a busy registry, want 2 s", got)
		}
		go func() {
			time.Sleep(5 * time.Millisecond)
			busy.Store(0)
		}()
		if got := waits(t, p, 1, 1); got < 5*time.Millisecond || got > 7*time.Millisecond {
			t.Fatalf("took %v, want until nobody waits", got)
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		slow := tasks.NewPace(0.001, nil)
		waits(t, slow, 1, 1)
		for name, p := range map[string]*tasks.Pace{
			"slow": slow,
			"busy": tasks.NewPace(0, func() int { return 1 }),
			"idle": tasks.NewPace(0, nil),
			"none": nil,
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			begun := time.Now()
			err := p.Wait(ctx, 1)
			if waits := name == "slow" || name == "busy"; (err != nil) != waits || time.Since(begun) > time.Millisecond {
				t.Errorf("%s: %v after %v", name, err, time.Since(begun))
			}
			cancel()
			if err := p.Wait(ctx, 1); err == nil {
				t.Errorf("%s: no error after the end", name)
			}
		}
	})
}

func TestNoPace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		if got := waits(t, nil, 10, 1<<30); got != 0 {
			t.Errorf("no Pace waits for %v", got)
		}
	})
}

// Whoever works unevenly, or is woken up late, still gets the rate.
func TestPaceCatchesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := tasks.NewPace(1000, nil)
		begun := time.Now()
		for range 500 {
			waits(t, p, 2, 1)
			pass(2 * time.Millisecond)
		}
		if took := time.Since(begun); took > 1010*time.Millisecond {
			t.Fatalf("1000 units took %v, want a second", took)
		}
	})
}

// Whoever gives up leaves its units to the others.
func TestPaceGivesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := tasks.NewPace(1, nil)
		waits(t, p, 1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := p.Wait(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if got := waits(t, p, 1, 1); got > time.Second {
			t.Fatalf("took %v, want a second", got)
		}
	})
}

func TestPaceSetRate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		p := tasks.NewPace(0.001, nil)
		waits(t, p, 1, 1)
		p.SetRate(10)
		if got := waits(t, p, 11, 1); got > time.Second || got < 900*time.Millisecond {
			t.Fatalf("10 took %v, want a second", got)
		}
	})
}

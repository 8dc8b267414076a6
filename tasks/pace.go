package tasks

import (
	"context"
	"sync"
	"time"
)

const (
	// giveWay is how long a Wait lets requests go first, at most.
	giveWay = 20 * time.Millisecond

	// lookAgain is how often a Wait that gives way asks if it still has to.
	lookAgain = 2 * time.Millisecond

	// catchUp is how much of the time that nobody used may be made up for.
	// Without it a rate of thousands couldn't be reached by timers of a millisecond.
	catchUp = 50 * time.Millisecond
)

// A Pace keeps background I/O slow, and slower while requests are in flight. All
// that share a Pace share its rate. It is safe for concurrent use. A nil Pace
// never waits.
type Pace struct {
	busy func() int

	mu   sync.Mutex // guards what follows
	rate float64
	next time.Time // when the next unit may go
}

// NewPace returns a Pace of at most rate units a second; what a unit is, say a
// file or a byte, is for its users to agree on. Zero or less: no limit. The
// function busy returns how many requests are in flight. It must be fast; nil
// stands for none.
func NewPace(rate float64, busy func() int) *Pace {
	return &Pace{rate: rate, busy: busy}
}

// SetRate changes the rate for each Wait that begins from now on.
func (p *Pace) SetRate(rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
	p.next = time.Time{}
}

// Wait returns when n units of I/O may be done, or the error of ctx as soon as
// that ends. While requests are in flight it gives way to them first, but for at
// most 20 ms: background work goes on, slowly, on a registry that's never idle.
func (p *Pace) Wait(ctx context.Context, n int) error {
	if err := ctx.Err(); err != nil || p == nil {
		return err
	}
	if err := p.yield(ctx); err != nil {
		return err
	}
	wait, cost := p.reserve(n)
	if err := sleep(ctx, wait); err != nil {
		p.giveBack(cost)
		return err
	}
	return nil
}

func (p *Pace) yield(ctx context.Context) error {
	for left := giveWay; left > 0 && p.busy != nil && p.busy() > 0; left -= lookAgain {
		if err := sleep(ctx, lookAgain); err != nil {
			return err
		}
	}
	return nil
}

// reserve takes n units and returns how long to wait for them. They put off
// the next ones, not themselves, by cost.
func (p *Pace) reserve(n int) (wait, cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate <= 0 {
		return 0, 0
	}
	now := time.Now()
	if earliest := now.Add(-catchUp); p.next.Before(earliest) {
		p.next = earliest
	}
	wait = p.next.Sub(now)
	cost = time.Duration(min(float64(n)/p.rate*float64(time.Second), float64(day)))
	p.next = p.next.Add(cost)
	return wait, cost
}

// giveBack returns units that weren't used.
func (p *Pace) giveBack(cost time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = p.next.Add(-cost)
}

// sleep waits for d, or for the end of ctx and returns its error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

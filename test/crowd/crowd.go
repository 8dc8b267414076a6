//go:build real

// Package crowd keeps clients busy while a test does something else.
package crowd

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
)

// Crowd is clients that work at the same time.
type Crowd struct {
	t      *testing.T
	ended  chan struct{}   // closed when no turn is to be begun any more
	failed <-chan struct{} // closed when a client has failed, or the test is over
	turn   chan struct{}   // a value for each turn, if somebody waits for it
	turns  atomic.Int64
	wg     sync.WaitGroup
}

// Start makes clients begin: each is called for its turn again and again, until
// Stop or the end of the test. The first error fails the test and ends all of them.
func Start(t *testing.T, clients ...func(context.Context) error) *Crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &Crowd{t: t, ended: make(chan struct{}), failed: ctx.Done(), turn: make(chan struct{})}
	t.Cleanup(func() {
		cancel()
		c.wg.Wait()
	})
	for i, client := range clients {
		c.wg.Go(func() {
			if err := c.work(ctx, client); err != nil && ctx.Err() == nil {
				t.Errorf("client %d: %v", i, err)
				cancel()
			}
		})
	}
	return c
}

func (c *Crowd) work(ctx context.Context, client func(context.Context) error) error {
	for {
		select {
		case <-c.ended:
			return nil
		default:
		}
		if err := client(ctx); err != nil {
			return err
		}
		c.turns.Add(1)
		select {
		case c.turn <- struct{}{}:
		default:
		}
	}
}

// Await returns after so many more turns.
func (c *Crowd) Await(turns int) {
	c.t.Helper()
	for range turns {
		c.Receive(c.turn)
	}
}

// Receive returns when a client has sent something.
func (c *Crowd) Receive(from <-chan struct{}) {
	c.t.Helper()
	select {
	case <-from:
	case <-c.failed:
		c.t.FailNow()
	}
}

// Stop lets each client finish its turn, and returns how many turns there were.
func (c *Crowd) Stop() int64 {
	c.t.Helper()
	close(c.ended)
	c.wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
	return c.turns.Load()
}

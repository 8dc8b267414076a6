package s3

import (
	"context"
	"time"
)

// turns lets other processes change a record that this one changes all the time.
// Who has written it last knows what it is, and needs one call to write again. Who
// has lost needs two, to read and to write, and would lose again every time.
type turns struct {
	row   int           // writes in a row, without time for two calls between them
	took  time.Duration // what the last of them took
	ended time.Time     // when it did
}

const (
	writesInRow = 8               // after so many it's the others' turn
	longestTurn = 2 * time.Second // which is theirs no longer than this
)

// wait waits before the next write, if it's the others' turn.
func (t *turns) wait(ctx context.Context) error {
	since, turn := time.Since(t.ended), min(2*t.took, longestTurn)
	if since >= turn {
		t.row = 0
	}
	if t.row < writesInRow {
		return nil
	}
	t.row = 0
	return sleep(ctx, turn-since)
}

// wrote notes a write that has succeeded.
func (t *turns) wrote(began time.Time) {
	t.row++
	t.ended = time.Now()
	t.took = t.ended.Sub(began)
}

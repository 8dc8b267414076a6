package filesystem

import (
	"crypto/sha256"
	"hash"
)

// TakeWideLanes takes all that there are, waiting for those who have some, until release
// is called.
func TakeWideLanes() (release func()) {
	for range wideLanes {
		wide <- struct{}{}
	}
	return func() {
		for range wideLanes {
			<-wide
		}
	}
}

// Lane is a wide lane whose hashing waits until it's told to go on.
type Lane struct {
	lane *lane
	goOn chan struct{}
}

// SpareChunks, WideDepth are the sizes of wide lanes.
const (
	SpareChunks = spareChunks
	WideDepth   = wideDepth
)

// OpenLane begins a Lane. The hashing of each chunk that is added waits for GoOn.
func OpenLane() *Lane {
	goOn := make(chan struct{})
	return &Lane{openLane(&session{hash: waitingHash{sha256.New(), goOn}}), goOn}
}

type waitingHash struct {
	hash.Hash

	goOn chan struct{}
}

func (h waitingHash) Write(p []byte) (int, error) {
	<-h.goOn
	return h.Hash.Write(p)
}

// Add takes a buffer, fills it with b and has it hashed.
func (l *Lane) Add(b byte) {
	buf := l.lane.take()
	for i := range buf {
		buf[i] = b
	}
	l.lane.add(buf)
}

// Take takes a buffer that nothing comes into, which putBack puts back.
func (l *Lane) Take() (putBack func()) {
	buf := l.lane.take()
	return func() { l.lane.free <- buf }
}

// GoOn has so many chunks hashed.
func (l *Lane) GoOn(n int) {
	for range n {
		l.goOn <- struct{}{}
	}
}

// Close ends the lane and returns what was hashed.
func (l *Lane) Close() []byte {
	l.lane.close()
	return l.lane.session.hash.Sum(nil)
}

// SparesTaken is how many spare chunks are in lanes.
func SparesTaken() int { return len(spare) }

package s3

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"
)

// stream is the content of an upload session on its way to the bucket: parts that
// are there, parts being sent, rests, and bytes that are here only.
type stream struct {
	store    *Store
	partSize int64

	parts     []part
	partsHash []byte // the state of the hash after the parts
	next      int    // the number of the next part
	reserved  int    // numbers below are this process's
	flights   []*flight
	rests     []entry
	buf       []byte
	held      int64  // how much memory there is for buf,
	from      *share // and what of
}

// flight is a part that's being sent.
type flight struct {
	part

	hash []byte // the state after it
	done chan struct{}
	err  error
}

const (
	smallBuffer  = 256 << 10 // what every session may have in memory, in bytes
	reserveParts = 16        // how many part numbers are reserved at once
)

// become makes the stream what a record says.
func (c *stream) become(rec sessionRecord) {
	c.drop()
	c.parts, c.partsHash = slices.Clone(rec.Parts), rec.PartsHash
	c.next, c.reserved = max(1, rec.NextPart), rec.NextPart
	c.rests, c.buf, c.partSize = slices.Clone(rec.Rests), slices.Clone(rec.Inline), rec.PartSize
}

// drop forgets what is here only, and gives back its memory.
func (c *stream) drop() {
	c.buf = nil
	c.give(c.held)
}

func (c *stream) give(n int64) {
	if n > 0 {
		c.from.Release(n)
		c.held -= n
	}
}

func (c *stream) restSize() (n int64) {
	for _, r := range c.rests {
		n += r.Size
	}
	return n
}

// room is how much fits before there's a part.
func (c *stream) room() int64 { return c.partSize - c.restSize() - int64(len(c.buf)) }

// inParts is how much is in parts that are there.
func (c *stream) inParts() int64 { return int64(len(c.parts)) * c.partSize }

// add appends p, which fits.
func (c *stream) add(ctx context.Context, p []byte) error {
	if len(c.buf)+len(p) > smallBuffer && c.held == 0 {
		if err := c.makeRoom(ctx); err != nil {
			return err
		}
	}
	n := len(c.buf) + len(p)
	if n > cap(c.buf) {
		grown := make([]byte, len(c.buf), min(int(c.partSize), max(n, 4*cap(c.buf))))
		copy(grown, c.buf)
		c.buf = grown
	}
	c.buf = append(c.buf, p...)
	return nil
}

// makeRoom has memory for a part. If there's none what is here becomes a rest: clients
// take their time, and nobody waits for them. But with AwaitMemory those who have some
// are about to give it back.
func (c *stream) makeRoom(ctx context.Context) error {
	filled := c.store.memory.filled
	if c.store.options().AwaitMemory {
		return c.take(ctx, filled)
	}
	if !filled.TryAcquire(c.partSize) {
		return c.spill(ctx)
	}
	c.held, c.from = c.partSize, filled
	return nil
}

// take waits for memory for a part, or for all there is: the session may be of a
// process that has more.
func (c *stream) take(ctx context.Context, from *share) error {
	n, err := from.acquire(ctx, c.partSize)
	if err != nil {
		return err
	}
	c.held, c.from = n, from
	return nil
}

// spill makes what is here only a rest.
func (c *stream) spill(ctx context.Context) error {
	if len(c.buf) == 0 {
		return nil
	}
	rest := entry{ID: newID(), Size: int64(len(c.buf))}
	if _, err := c.store.bucket.put(ctx, putRequest{Key: c.store.keys.data(rest.ID), Body: c.buf, Blob: true}); err != nil {
		return err
	}
	c.rests = append(c.rests, rest)
	c.drop()
	return nil
}

// hold waits for memory for a part that is going to be sent, which others give
// back as fast as the store takes it.
func (c *stream) hold(ctx context.Context) error {
	if c.held > 0 {
		return nil
	}
	return c.take(ctx, c.store.memory.sent)
}

// gather returns the rests and buf as one.
func (c *stream) gather(ctx context.Context) ([]byte, error) {
	if len(c.rests) == 0 {
		return c.buf, nil
	}
	if err := c.hold(ctx); err != nil {
		return nil, err
	}
	var all bytes.Buffer
	for _, r := range c.rests {
		body, _, err := c.store.bucket.fetch(ctx, getRequest{Key: c.store.keys.data(r.ID)})
		if err != nil {
			return nil, err
		}
		all.Write(body)
	}
	all.Write(c.buf)
	return all.Bytes(), nil
}

// send begins to send body as the next part, after which the hash is so. Its
// memory is given back when it's there.
func (c *stream) send(ctx context.Context, key, upload string, body, hash []byte) {
	f := &flight{part: part{Number: c.next}, hash: hash, done: make(chan struct{})}
	c.next++
	held, from := c.held, c.from
	c.held, c.buf, c.rests = 0, nil, nil
	c.flights = append(c.flights, f)
	var sending sync.WaitGroup
	sending.Go(func() {
		defer close(f.done) // settle waits for it
		f.ETag, f.err = c.store.bucket.part(ctx, key, upload, f.Number, body)
		if held > 0 {
			from.Release(held)
		}
	})
}

// land waits until no more than n parts are being sent. After a failure what
// follows the parts that are there is lost.
func (c *stream) land(n int) error {
	for len(c.flights) > n {
		f := c.flights[0]
		<-f.done
		if f.err != nil {
			return f.err
		}
		c.parts, c.partsHash = append(c.parts, f.part), f.hash
		c.flights = c.flights[1:]
	}
	return nil
}

// abandon waits for all that's being sent, and forgets it and what follows.
func (c *stream) abandon() {
	for _, f := range c.flights {
		<-f.done
	}
	c.flights, c.rests = nil, nil
	c.drop()
}

// sendPart sends what there is as the next part.
func (s *session) sendPart(ctx context.Context) error {
	c := &s.content
	if err := c.land(s.repository.store.options().PartsAtOnce - 1); err != nil {
		return err
	}
	if c.next >= c.reserved {
		if err := s.reserve(ctx); err != nil {
			return err
		}
	}
	body, err := c.gather(ctx)
	if err != nil {
		return err
	}
	state, err := stateOf(s.hash)
	if err != nil {
		return err
	}
	c.send(ctx, s.repository.store.keys.data(s.rec.Data), s.rec.Upload, body, state)
	return nil
}

// reserve makes part numbers this process's. What is there by then is written
// down too, so no more than a few parts are lost with the process.
func (s *session) reserve(ctx context.Context) error {
	c, rec := &s.content, s.rec
	if rec.Upload == "" {
		rec.Data = newID()
		var err error
		if rec.Upload, err = s.repository.store.bucket.begin(ctx, s.repository.store.keys.data(rec.Data)); err != nil {
			return err
		}
	}
	c.next = max(1, c.next)
	rec.NextPart = c.next + reserveParts
	if c.inParts() > rec.Size {
		rec.Parts, rec.PartsHash, rec.Rests, rec.Inline = slices.Clone(c.parts), c.partsHash, nil, nil
		rec.Size, rec.Hash = c.inParts(), c.partsHash
	}
	rec.PartSize = c.partSize
	if err := s.write(ctx, rec); err != nil {
		return err
	}
	c.reserved = rec.NextPart
	return nil
}

// readChunk fills p or returns the error that kept it from that. It is not
// io.ReadFull, which makes a body that was cut off look like one that ended.
func readChunk(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

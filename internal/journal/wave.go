package journal

import (
	"maps"
	"strconv"
	"time"
)

// retryTime is after how long what has failed is tried again.
const retryTime = 10 * time.Second

// wait returns once the operation seq is durable. Who comes first writes down
// what all have recorded by then; the others find it done.
func (t *tree) wait(seq uint64) error {
	if t.isDurable(seq) {
		return nil
	}
	t.wave.Lock()
	defer t.wave.Unlock()
	if t.isDurable(seq) {
		return nil
	}
	return t.flush(false)
}

func (t *tree) isDurable(seq uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.on || t.durable >= seq
}

// flush makes everything durable that was recorded, at the beginning of a new
// epoch if it's to be one. If the journal can't be written it's done without it.
func (t *tree) flush(turn bool) error {
	if t.broken {
		t.mu.Lock()
		t.buf = nil // leaving makes all of it durable
		t.now.add(t.next)
		t.next = newTouched()
		t.mu.Unlock()
		return t.leave()
	}
	t.mu.Lock()
	frame, upTo, recorded := t.buf, t.seq, t.next
	t.buf, t.spare, t.next = t.spare[:0], nil, newTouched()
	t.mu.Unlock()
	err := t.write(frame, recorded, turn)
	if err == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.durable = upTo
		if cap(frame) <= 2*maxBuffer {
			t.spare = frame
		}
		return nil
	}
	t.broken = true
	t.opts.Log.Warn("the journal can't be written, so each file is synced by itself", "error", err)
	return t.leave()
}

// write appends a frame, with what was recorded in it, to the log, or to the other
// one if it's full.
func (t *tree) write(frame []byte, recorded touched, turn bool) (err error) {
	l := t.logs[t.now.number%2] // now changes only here
	if turn || l.end > headSize && l.end+int64(len(frame)) > t.opts.Limit {
		frame, err = t.turn(t.now.number+1, frame)
	}
	t.mu.Lock()
	t.now.add(recorded)
	t.mu.Unlock()
	if err != nil || len(frame) <= frameHead {
		return err
	}
	return t.logs[t.now.number%2].append(t.now.number, frame)
}

// add makes what was recorded a part of the epoch in whose log it's written.
func (e *epoch) add(recorded touched) {
	for f := range recorded.files {
		f.epoch = e
		f.unwritten--
	}
	maps.Copy(e.files, recorded.files)
	maps.Copy(e.dirs, recorded.dirs)
	maps.Copy(e.made, recorded.made)
}

// turn begins epoch n with a frame, which gets what else it has to say. The log it
// takes is that of the epoch before the last one, whose files must be synced.
func (t *tree) turn(n uint64, frame []byte) ([]byte, error) {
	t.mu.Lock()
	past := t.past
	t.mu.Unlock()
	if past != nil {
		if err := t.finish(past); err != nil {
			return nil, err
		}
		if err := t.sayDone(past); err != nil {
			return nil, err
		}
	}
	if err := t.begin(n); err != nil {
		return nil, err
	}
	next := t.newEpoch(n)
	t.mu.Lock()
	defer t.mu.Unlock()
	if past != nil {
		t.drop(past)
	}
	t.past, t.now, t.last = t.now, next, n
	maps.DeleteFunc(t.changes, func(_ string, seq uint64) bool { return seq <= t.durable })
	t.stopTimer()
	old := t.past
	t.work.Go(func() { t.close(old) })
	return t.stillDoubted(frame), nil
}

// sayDone has it in the log, durably, that an epoch's log counts no more. It may be
// overwritten then: of what is written over it a power cut may leave any part.
func (t *tree) sayDone(e *epoch) error {
	frame := op{kind: opDone, name: strconv.FormatUint(e.number, 10)}.append(make([]byte, frameHead))
	return t.logs[t.now.number%2].append(t.now.number, frame)
}

// stillDoubted adds to the first frame of an epoch the directories of which
// somebody may be about to rely on that they were doubted in the one before.
func (t *tree) stillDoubted(frame []byte) []byte {
	if len(frame) == 0 {
		frame = append(frame, make([]byte, frameHead)...)
	}
	for dir, late := range t.doubted {
		delete(t.doubted, dir)
		if late || t.making[dir] > 0 {
			t.doubted[dir] = false
			frame = op{kind: opDoubt, name: dir}.append(frame)
		}
	}
	return frame
}

// begin takes the log of an epoch.
func (t *tree) begin(n uint64) error {
	l := t.logs[n%2]
	fi, err := l.file.Stat()
	if err != nil {
		return err
	}
	h := head{epoch: n, boot: t.opts.Boot}
	h.device, h.inode, _ = t.opts.Identity(fi)
	return l.begin(h)
}

// startTimer has tend called later, unless it's going to be. mu is held.
func (t *tree) startTimer(after time.Duration) {
	if t.timer == nil && !t.ending {
		t.work.Add(1)
		t.rings++
		ring := t.rings
		t.timer = time.AfterFunc(after, func() { t.tend(ring) })
	}
}

func (t *tree) stopTimer() {
	if t.timer != nil && t.timer.Stop() {
		t.work.Done()
	}
	t.timer = nil
}

// tend ends an epoch whose time has come, or begins a journal anew that couldn't
// be written.
func (t *tree) tend(ring uint64) {
	defer t.work.Done()
	t.wave.Lock()
	defer t.wave.Unlock()
	t.mu.Lock()
	if t.rings == ring { // else there's a later one
		t.timer = nil
	}
	on, ending, past := t.on, t.ending, t.past
	if past != nil && on {
		t.startTimer(retryTime)
	}
	t.mu.Unlock()
	switch {
	case ending:
	case past != nil && on:
		t.work.Go(func() { t.close(past) }) // unless that's going on already
	case on:
		if err := t.flush(true); err != nil {
			t.opts.Log.Error("files can't be synced", "error", err)
		}
	default:
		t.start()
	}
}

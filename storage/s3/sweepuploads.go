package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/storage"
)

// sweepSessions ends the sessions that were given up, and notes what the others use.
func (w *sweep) sweepSessions(ctx context.Context) {
	complete := w.each(ctx, w.store.keys.sessions(), func(o listed) {
		if err := w.sweepSession(ctx, o); err != nil {
			w.unread = true
			w.fail(fmt.Errorf("upload session %s: %w", path.Base(o.Key), err))
		}
	})
	w.unread = w.unread || !complete
}

func (w *sweep) sweepSession(ctx context.Context, o listed) error {
	body, etag, err := w.store.bucket.fetch(ctx, getRequest{Key: o.Key})
	if errors.Is(err, errNotFound) {
		return nil // it was committed: what it had is in a record that is read later
	}
	if err != nil {
		return err
	}
	var rec sessionRecord
	if err := json.Unmarshal(body, &rec); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrBroken, err)
	}
	switch id := path.Base(o.Key); {
	case !w.old(o):
	case rec.Ended && time.Since(o.Modified) < lifetime:
		return nil // its ID would be that of an empty session
	case rec.Ended:
		if w.found(storage.SweptLeftover, "uploads/"+id, o.Size) {
			return w.remove(ctx, []string{o.Key})
		}
		return nil
	case w.found(storage.SweptUpload, id, rec.Size):
		ended, err := w.endSession(ctx, o.Key, etag, rec)
		if ended || err != nil {
			return err
		}
	case w.dry:
		return nil
	}
	w.use(rec)
	return nil
}

// use notes the data of a session that goes on.
func (w *sweep) use(rec sessionRecord) {
	for _, r := range rec.Rests {
		delete(w.data, r.ID)
	}
	if rec.Data != "" {
		delete(w.data, rec.Data)
		w.inUse[rec.Data] = true
	}
}

// endSession is false if somebody has gone on with the session.
func (w *sweep) endSession(ctx context.Context, key, etag string, rec sessionRecord) (ended bool, err error) {
	if err := w.store.writable(ctx); err != nil {
		return false, err
	}
	body, err := json.Marshal(sessionRecord{
		Repository: rec.Repository, Algorithm: rec.Algorithm, Write: newID(), Ended: true, Data: rec.Data, Upload: rec.Upload,
	})
	if err != nil {
		return false, err
	}
	_, err = w.store.bucket.put(ctx, putRequest{Key: key, Body: body, IfMatch: etag})
	if errors.Is(err, errConflict) || errors.Is(err, errNotFound) {
		return false, nil
	}
	if err != nil || rec.Upload == "" {
		return err == nil, err
	}
	return true, w.store.bucket.abort(ctx, w.store.keys.data(rec.Data), rec.Upload)
}

// sweepUploads forgets parts that no session knows of.
func (w *sweep) sweepUploads(ctx context.Context) {
	prefix := w.store.keys.data("")
	for after, more := (begun{}), !w.unread; more && !w.stopped; {
		var page []begun
		var err error
		if page, more, err = w.store.bucket.begun(ctx, prefix, after); err != nil {
			w.fail(fmt.Errorf("list multipart uploads: %w", err))
			return
		}
		for _, u := range page {
			after = u
			if !u.At.Before(w.before) || w.inUse[strings.TrimPrefix(u.Key, prefix)] {
				continue
			}
			if !w.found(storage.SweptUpload, strings.TrimPrefix(u.Key, w.store.keys.prefix), 0) {
				continue
			}
			err := w.store.writable(ctx)
			if err == nil {
				err = w.store.bucket.abort(ctx, u.Key, u.Upload)
			}
			if err != nil {
				w.fail(err)
			}
		}
	}
}

func digestOf(key byDigest) digest.Digest { return digest.Digest(key) }

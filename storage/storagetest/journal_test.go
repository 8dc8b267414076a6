package storagetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/internal/vfs"
	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/memory"
)

// journal is the smallest store that outlives its process: a store in memory,
// and one file that says all of it, written anew for each change. It is here to
// be broken, so that Reopen and Crash can be seen to notice.
type journal struct {
	storage.Store

	fs     vfs.FS
	faults faults

	mu    sync.Mutex
	state map[string]*journaled // by repository
}

// faults are the ways in which a journal is broken.
type faults struct {
	inPlace   bool // the file is written over instead of replaced
	late      bool // an Update is acknowledged before it is written, at the next one
	tagsFirst bool // tags are written in a change of their own, before their manifest
	noBlobs   bool // blobs aren't written
	undead    bool // nothing is ever deleted
	forgets   func(*journaled)
}

type journaled struct {
	Blobs     map[digest.Digest][]byte
	Manifests []journaledManifest
	Tags      map[string]digest.Digest
	Sessions  map[string][]byte
}

type journaledManifest struct {
	MediaType string
	Raw       []byte
	Algorithm digest.Algorithm
}

func openJournal(fsys vfs.FS, broken faults) (storage.Store, error) {
	j := &journal{Store: memory.New(), fs: fsys, faults: broken, state: make(map[string]*journaled)}
	f, err := fsys.Open("journal")
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &j.state); err != nil {
		return nil, err
	}
	for n, c := range j.state {
		if broken.forgets != nil {
			broken.forgets(c)
		}
		if err := j.load(n, c); err != nil {
			return nil, err
		}
	}
	return j, nil
}

// load puts into memory what the file says of a repository.
func (j *journal) load(n string, c *journaled) error {
	name, err := oci.ParseName(n)
	if err != nil {
		return err
	}
	r := j.Store.Repository(name)
	for d, content := range c.Blobs {
		if _, err := storage.PutBlob(ctx, r, d, bytes.NewReader(content), storage.UploadOptions{}); err != nil {
			return err
		}
	}
	return r.Update(ctx, func(e *storage.Edit) error {
		for _, m := range c.Manifests {
			parsed, err := oci.ParseManifest(m.MediaType, m.Raw, m.Algorithm)
			if err != nil {
				return err
			}
			e.Put(parsed)
		}
		for s, d := range c.Tags {
			t, err := oci.ParseTag(s)
			if err != nil {
				return err
			}
			e.Tag(t, d)
		}
		return nil
	})
}

func (j *journal) Repository(n oci.Name) storage.Repository {
	return journalRepository{j.Store.Repository(n), j}
}

func (j *journal) Close() error { return errors.Join(j.Store.Close(), j.fs.Close()) }

// write changes the state of a repository and writes everything.
func (j *journal) write(n oci.Name, change func(*journaled)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := j.state[n.String()]
	if c == nil {
		c = &journaled{Blobs: make(map[digest.Digest][]byte), Tags: make(map[string]digest.Digest), Sessions: make(map[string][]byte)}
		j.state[n.String()] = c
	}
	change(c)
	raw, err := json.Marshal(j.state)
	if err != nil {
		return err
	}
	if j.faults.inPlace {
		return j.writeFile("journal", raw)
	}
	if err := j.writeFile("journal.new", raw); err != nil {
		return err
	}
	return j.fs.Rename("journal.new", "journal")
}

func (j *journal) writeFile(name string, raw []byte) error {
	f, err := j.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Close())
}

type journalRepository struct {
	storage.Repository

	j *journal
}

func (r journalRepository) NewUpload(ctx context.Context, opts storage.UploadOptions) (storage.Upload, error) {
	u, err := r.Repository.NewUpload(ctx, opts)
	if err != nil {
		return nil, err
	}
	commit := func(want digest.Digest) (oci.Descriptor, error) {
		desc, failed := u.Commit(ctx, want)
		if failed != nil {
			return desc, failed
		}
		return desc, r.saveBlob(ctx, want)
	}
	return &mutantUpload{Upload: u, commit: commit}, nil
}

func (r journalRepository) MountBlob(ctx context.Context, d digest.Digest, from oci.Name) (oci.Descriptor, error) {
	desc, err := r.Repository.MountBlob(ctx, d, from)
	if err != nil {
		return desc, err
	}
	return desc, r.saveBlob(ctx, d)
}

func (r journalRepository) saveBlob(ctx context.Context, d digest.Digest) error {
	b, err := r.OpenBlob(ctx, d)
	if err != nil {
		return err
	}
	content, err := io.ReadAll(b)
	if err = errors.Join(err, b.Close()); err != nil || r.j.faults.noBlobs {
		return err
	}
	return r.j.write(r.Name(), func(c *journaled) { c.Blobs[d] = content })
}

func (r journalRepository) Update(ctx context.Context, fn func(*storage.Edit) error) error {
	var changes []storage.Change
	err := r.Repository.Update(ctx, func(e *storage.Edit) error {
		err := fn(e)
		changes = e.Changes()
		return err
	})
	if r.j.faults.undead {
		changes = slices.DeleteFunc(changes, func(c storage.Change) bool { return c.Kind > storage.TagChange })
	}
	if err != nil || len(changes) == 0 {
		return err
	}
	if r.j.faults.late {
		r.j.mu.Lock()
		defer r.j.mu.Unlock()
		c := r.j.state[r.Name().String()]
		if c != nil {
			c.apply(changes)
			return nil
		}
	}
	if r.j.faults.tagsFirst {
		isPut := func(c storage.Change) bool { return c.Kind == storage.PutChange }
		if err := r.j.write(r.Name(), func(c *journaled) { c.apply(slices.DeleteFunc(slices.Clone(changes), isPut)) }); err != nil {
			return err
		}
	}
	return r.j.write(r.Name(), func(c *journaled) { c.apply(changes) })
}

func (c *journaled) apply(changes []storage.Change) {
	for _, ch := range changes {
		switch ch.Kind {
		case storage.PutChange:
			m := journaledManifest{ch.Manifest.MediaType, ch.Manifest.Raw, ch.Digest.Algorithm()}
			if !slices.ContainsFunc(c.Manifests, func(o journaledManifest) bool { return o.digest() == ch.Digest }) {
				c.Manifests = append(c.Manifests, m)
			}
		case storage.TagChange:
			c.Tags[ch.Tag.String()] = ch.Digest
		case storage.UntagChange:
			delete(c.Tags, ch.Tag.String())
		case storage.DeleteChange:
			c.Manifests = slices.DeleteFunc(c.Manifests, func(o journaledManifest) bool { return o.digest() == ch.Digest })
			for t, d := range c.Tags {
				if d == ch.Digest {
					delete(c.Tags, t)
				}
			}
		case storage.MarkChange, storage.UnmarkChange:
		case storage.DropBlobChange:
			delete(c.Blobs, ch.Digest)
		}
	}
}

func (m journaledManifest) digest() digest.Digest { return m.Algorithm.FromBytes(m.Raw) }

package filesystem

import (
	"encoding"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/caddy-oci/oci-registry/oci"
)

// sessionState is the file state: where the session stands, in its own words.
type sessionState struct {
	Repository string           `json:"repository"`
	Algorithm  digest.Algorithm `json:"algorithm"`
	Size       int64            `json:"size"` // bytes of data that count; what's behind them doesn't
	Hash       []byte           `json:"hash"` // of these bytes, as encoding.BinaryMarshaler has it
	Boot       string           `json:"boot"` // in which the state was written
	By         string           `json:"by,omitempty"`
	Began      time.Time        `json:"began"`
}

// loadSession reads a session from the disk.
func loadSession(store *Store, id string) (*session, error) {
	n := &session{store: store, id: id, saved: true, hasDir: true, hasData: true, halfSaved: true}
	n.onDisk.Store(true)
	f, err := store.fs.Open(n.path("state"))
	if missing(err) {
		return nil, unknownUpload(id)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	var st sessionState
	if json.Unmarshal(data, &st) != nil || !st.Algorithm.Available() {
		return nil, unknownUpload(id) // anything in _uploads may be lost
	}
	if n.repo, err = oci.ParseName(st.Repository); err != nil {
		return nil, unknownUpload(id)
	}
	n.size, n.algorithm, n.by, n.began = st.Size, st.Algorithm, st.By, st.Began
	n.hash = st.Algorithm.Hash()
	if err := n.restore(st); err != nil {
		return nil, err
	}
	return n, nil
}

// restore makes the hash stand at the size. The saved one is believed only in
// the boot that wrote it: after a power cut the data on disk may be others than
// those that were hashed.
func (s *session) restore(st sessionState) error {
	if st.Size == 0 {
		return nil
	}
	if st.Size < 0 {
		return unknownUpload(s.id)
	}
	fi, err := s.store.fs.Stat(s.path("data"))
	if missing(err) || err == nil && fi.Size() < st.Size {
		return unknownUpload(s.id)
	}
	if err != nil {
		return err
	}
	if h, ok := s.hash.(encoding.BinaryUnmarshaler); ok && st.Boot != "" && st.Boot == bootID() {
		if h.UnmarshalBinary(st.Hash) == nil {
			return nil
		}
		s.hash.Reset()
	}
	f, err := s.store.fs.Open(s.path("data"))
	if err != nil {
		return err
	}
	_, err = io.CopyN(s.hash, f, st.Size)
	return errors.Join(err, f.Close())
}

// save writes the state, if the session has one to keep true. It is not
// synced: what a power cut takes here may be lost.
func (s *session) save() error {
	if !s.saved || s.ended {
		return nil
	}
	s.hashing.Wait() // another handle's Append may be in the middle
	st := sessionState{
		Repository: s.repo.String(), Algorithm: s.algorithm, Size: s.size,
		Boot: bootID(), By: s.by, Began: s.began,
	}
	if h, ok := s.hash.(encoding.BinaryMarshaler); ok {
		var err error
		if st.Hash, err = h.MarshalBinary(); err != nil {
			return err
		}
	}
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	tmp := s.path("state.new")
	s.halfSaved = true
	f, err := s.store.fs.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return s.store.space.note(err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return s.store.space.note(err)
	}
	err = s.store.fs.Rename(tmp, s.path("state"))
	s.halfSaved = err != nil
	return s.store.space.note(err)
}

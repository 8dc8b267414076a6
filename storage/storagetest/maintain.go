package storagetest

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/caddy-oci/oci-registry/oci"
	"github.com/caddy-oci/oci-registry/storage"
)

// Maintain holds a kind of store that is storage.Maintainable to what that says,
// one subtest a sentence. open is as that of Reopen.
func Maintain(t *testing.T, open func(t *testing.T) (s storage.Store, reopen func() storage.Store)) {
	t.Helper()
	for sentence, check := range map[string]func(m maintained){
		"what nobody has noted isn't there":             nothingNoted,
		"a note takes the place of the one before":      noteReplaced,
		"notes of several names don't touch each other": notesApart,
		"a note outlives the store":                     noteKept,
		"work that nobody does may be claimed":          claimed,
		"work that's released may be claimed again":     claimedAgain,
		"notes are no repositories":                     notesAreNotListed,
	} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			s, reopen := open(t)
			closeAfter(t, s)
			check(maintained{t, s, reopen})
		})
	}
}

// maintained is a store that's worked on.
type maintained struct {
	*testing.T

	store  storage.Store
	reopen func() storage.Store
}

func (m maintained) able() storage.Maintainable {
	m.Helper()
	s, ok := storage.As[storage.Maintainable](m.store)
	if !ok {
		m.Fatalf("a %T is no storage.Maintainable", m.store)
	}
	return s
}

func (m maintained) save(name, data string) {
	m.Helper()
	if err := m.able().SaveNote(m.Context(), name, []byte(data)); err != nil {
		m.Fatalf("save note %s: %v", name, err)
	}
}

func (m maintained) want(name, data string) {
	m.Helper()
	got, err := m.able().LoadNote(m.Context(), name)
	if err != nil || string(got) != data {
		m.Fatalf("note %s: %q, %v; want %q", name, got, err, data)
	}
}

func nothingNoted(m maintained) {
	if got, err := m.able().LoadNote(m.Context(), "gc"); !errors.Is(err, fs.ErrNotExist) {
		m.Fatalf("a note that nobody has saved: %q, %v; want fs.ErrNotExist", got, err)
	}
}

func noteReplaced(m maintained) {
	m.save("gc", "first, and longer")
	m.save("gc", "second")
	m.want("gc", "second")
}

func notesApart(m maintained) {
	m.save("gc", "one")
	m.save("gc-2", "two")
	m.want("gc", "one")
	m.want("gc-2", "two")
}

func noteKept(m maintained) {
	m.save("gc", "kept")
	if err := m.store.Close(); err != nil {
		m.Fatalf("close the store: %v", err)
	}
	m.store = m.reopen()
	closeAfter(m.T, m.store)
	m.want("gc", "kept")
}

func claimed(m maintained) {
	release, ok, err := m.able().Claim(m.Context(), "gc")
	if err != nil || !ok {
		m.Fatalf("claim: %v, %v; want true", ok, err)
	}
	release()
}

func claimedAgain(m maintained) {
	for range 3 {
		claimed(m)
	}
}

func notesAreNotListed(m maintained) {
	m.save("gc", "note")
	claimed(m)
	for name, err := range m.store.Repositories(m.Context(), oci.Name{}) {
		m.Fatalf("repositories: %v, %v; want none", name, err)
	}
}

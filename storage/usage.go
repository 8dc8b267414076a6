package storage

import "context"

// An UploadCounter is a Store that knows how many upload sessions it holds.
type UploadCounter interface {
	// OpenUploads counts the sessions that were begun, by whatever process, and
	// were neither committed nor cancelled. Those that their clients gave up stay
	// in the count for as long as they take up room.
	OpenUploads(ctx context.Context) (int, error)
}

// A Measurer is a Store that knows how much room it has.
type Measurer interface {
	// Space says how much room there is, without looking at any content. It's
	// errors.ErrUnsupported where that can't be known.
	Space(ctx context.Context) (Space, error)
}

// Space is the room on the medium that a Store is on, in bytes.
type Space struct {
	// Free is what may still be written.
	Free int64

	// Used is taken, by the Store or by anybody else.
	Used int64
}

package providers

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
)

// latestLog is a slog.Handler for what outlives configurations: it's that of the
// newest one, since the log of an older one may be closed. It has no groups.
type latestLog struct {
	to    *atomic.Pointer[slog.Logger]
	attrs []slog.Attr
}

func newLatestLog(log *slog.Logger) latestLog {
	l := latestLog{to: new(atomic.Pointer[slog.Logger])}
	l.to.Store(log)
	return l
}

// Enabled implements slog.Handler.
func (l latestLog) Enabled(ctx context.Context, level slog.Level) bool {
	return l.to.Load().Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (l latestLog) Handle(ctx context.Context, rec slog.Record) error {
	return l.to.Load().Handler().WithAttrs(l.attrs).Handle(ctx, rec)
}

// WithAttrs implements slog.Handler.
func (l latestLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return latestLog{l.to, append(slices.Clip(l.attrs), attrs...)}
}

// WithGroup implements slog.Handler.
func (l latestLog) WithGroup(string) slog.Handler { return l }

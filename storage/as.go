package storage

// As finds the first of s, and of the stores that s wraps, that is a T: how an
// optional ability is seen through wrappers, which have a method Unwrap() any.
func As[T any](s any) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		u, ok := s.(interface{ Unwrap() any })
		if !ok {
			break
		}
		s = u.Unwrap()
	}
	var zero T
	return zero, false
}

package settings

// Mistake marks an error as the user's, of the command line, the configuration or a file,
// and not one of running: the program ends with exit code 2 for it. Its message must name
// what is wrong, the value, and what would be right.
type Mistake struct{ Err error }

// Error is the message of what it marks.
func (m *Mistake) Error() string { return m.Err.Error() }

// Unwrap returns what it marks.
func (m *Mistake) Unwrap() error { return m.Err }

// Wrong marks err, which must not be nil, as the user's mistake.
func Wrong(err error) error { return &Mistake{err} }

package state_test

import (
	"github.com/prtwatch/prtwatch/detector"
	"github.com/prtwatch/prtwatch/state"
)

// Neither package knows the other; here it is seen that they fit.
var _ detector.History = (*state.Profile)(nil)

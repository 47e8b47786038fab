package state

import (
	"iter"

	berthv1 "github.com/berthd/berth/proto/berth/v1"
)

// Reservation gives a reservation; nil: there is none.
func (t *tables) Reservation(name string) *berthv1.Reservation {
	return get(t.reservations, &berthv1.Reservation{Name: name})
}

// Reservations iterates over all reservations by name.
func (t *tables) Reservations() iter.Seq[*berthv1.Reservation] {
	return from(t.reservations, &berthv1.Reservation{}, nil)
}

// PutReservation stores a reservation.
func (tx *Tx) PutReservation(r *berthv1.Reservation) {
	before, replaced := tx.reservations.Set(r)
	tx.changed(change{table: TableReservations, key: r.GetName(), after: r, before: orNil(before, replaced)})
}

// DeleteReservation forgets a reservation.
func (tx *Tx) DeleteReservation(name string) {
	if before, ok := tx.reservations.Delete(&berthv1.Reservation{Name: name}); ok {
		tx.changed(change{table: TableReservations, key: name, before: before})
	}
}

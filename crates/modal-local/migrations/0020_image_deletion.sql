-- A deleted image is not found any more; its row stays as long as a deployed function uses it. Times are seconds
-- since 1970.
ALTER TABLE images ADD COLUMN deleted_at REAL;

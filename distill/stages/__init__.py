"""What can be learned, one file each: distill.training.stage.Stage is what the loop asks of them."""

"""The exercises, one file each: task, stub, solution, cases, known mistakes, hints."""
